"""An SFTP server of AsyncSSH on 127.0.0.1: asyncssh_server.py PORT HOST_KEY AUTHORIZED_KEYS."""

import asyncio
import sys

import asyncssh


async def main(port, host_key, keys):
    """Serve for ever."""
    server = await asyncssh.listen("127.0.0.1", int(port), server_host_keys=[host_key], authorized_client_keys=keys,
                                   sftp_factory=True)
    await server.wait_closed()


asyncio.run(main(*sys.argv[1:]))

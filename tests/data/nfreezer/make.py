# Runs nFreezer's own backup() and restore(), with a local directory in place of pysftp's connection.
import sys, os, io, shutil, contextlib, hashlib, warnings
warnings.filterwarnings('ignore')
import nfreezer, pysftp
from pathlib import Path
D=Path(__file__).resolve().parent
class Conn:
    def __init__(s,*a,**k): s.d=None
    def __enter__(s): return s
    def __exit__(s,*a): return False
    def p(s,n): return os.path.join(s.d,n)
    def isdir(s,p): return os.path.isdir(p)
    def chdir(s,p): s.d=p
    def listdir(s): return os.listdir(s.d)
    def isfile(s,n): return os.path.isfile(s.p(n))
    def remove(s,n): os.remove(s.p(n))
    def rename(s,a,b): os.rename(s.p(a),s.p(b))
    def getfo(s,n,f): f.write(open(s.p(n),'rb').read())
    def open(s,n,mode='r'):
        mode=mode.replace('b','')
        if 'a' in mode: return open(s.p(n),'ab+')
        return open(s.p(n),mode+'b')
pysftp.Connection=Conn; nfreezer.pysftp.Connection=Conn
src=Path(__import__('tempfile').mkdtemp()); shutil.rmtree(src,ignore_errors=True); src.mkdir()
(src/'dir/deep').mkdir(parents=True)
(src/'empty').write_bytes(b'')
(src/'a.txt').write_bytes(b'first')
(src/'gone.txt').write_bytes(b'gone soon')
(src/'dir/ä ö.bin').write_bytes(bytes(range(256))*40)
(src/'dir/deep/copy').write_bytes(b'first')
(src/'dir/large').write_bytes(hashlib.shake_256(b'x').digest(20001))
os.utime(src/'a.txt',ns=(1,1234567890123456789))
dest=D/'destination'; shutil.rmtree(dest,ignore_errors=True); dest.mkdir(parents=True)
addr='u@h:'+str(dest)
nfreezer.backup(str(src),addr,'x','old password')
os.chdir(src)
(src/'gone.txt').unlink(); (src/'a.txt').write_bytes(b'changed'); os.utime(src/'a.txt',ns=(1,1600000000000000001))
os.rename(src/'dir/large',src/'dir/moved')
(src/'dir/.keep').write_bytes(b'')  # nFreezer leaves hidden files out
nfreezer.backup(str(src),addr,'x','old password')
exp=D/'expected'; shutil.rmtree(exp,ignore_errors=True); exp.mkdir()
nfreezer.restore(str(dest),str(exp),None,'old password')
lines=[]
for f in sorted(exp.rglob('*')):
    if f.is_file(): lines.append(f"{f.stat().st_mtime_ns} {f.relative_to(exp)}")
(D/'mtimes').write_text('\n'.join(lines)+'\n')
key,salt=nfreezer.KDF('old password')
(D/'impostor').write_bytes(nfreezer.encrypt(s=b'i'*20001,key=key,salt=salt).read())
fields=dict(chunkid=bytes(15)+b'\1',mtime=1,fsize=1,h=bytes(32),key=key,salt=salt)
(D/'escaping').write_bytes(b''.join(nfreezer.newdistantfileblock(fn=fn,**fields) for fn in ['../escaped','/absolute']))
print((D/'mtimes').read_text()); print(os.listdir(dest))

//! `nfz key list`, `add`, `remove`, `change`, `rotate`.

use super::{
    super::{
        exit::Exit,
        failure::Failure,
        json::Document,
        open::{self, Context, IfMissing, Opened},
        text::{Bytes, counted, local_time, table},
    },
    AddArgs, ChangeArgs, ListArgs, RemoveArgs, RotateArgs,
    json::KeyReport,
};
use crate::{
    format::{id::to_hex, manifest::Time},
    repository::{Credentials, KeyError, Rotated, SlotInfo},
};
use jiff::tz::TimeZone;

/// How many digits of a slot's id are shown.
const ID_SHOWN: usize = 8;

pub(super) async fn list(context: &Context, args: &ListArgs) -> Result<Exit, Failure> {
    let address = context.given().address(args.address.as_deref())?;
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    let slots = opened.repository.slots().await?;
    if context.view.json {
        slots.iter().for_each(|slot| context.view.document(Document::KeySlot(slot.into())));
    } else {
        rows(&slots, &TimeZone::system()).iter().for_each(|row| context.view.line(row));
    }
    if slots.iter().any(|slot| slot.epoch().is_some_and(|epoch| epoch < opened.repository.keys().epoch())) {
        context.view.note(
            "Slots of an older epoch are left from a rotation that was cut off: they open only what is older. Remove them.",
        );
    }
    opened.close().await;
    Ok(Exit::Done)
}

pub(super) async fn add(context: &Context, args: &AddArgs) -> Result<Exit, Failure> {
    let address = context.given().address(args.address.as_deref())?;
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    opened.repository.check_writable()?;
    let credentials = args.new.read(context, &address.to_string()).await?;
    let slot = to_hex(&opened.repository.add_slot(&credentials, &args.new.options()).await?);
    context.view.summary(&[format!("Added key slot {}. What opened the repository before still does.", short(&slot))]);
    finish(context, opened, KeyReport::Add { slot }).await
}

pub(super) async fn remove(context: &Context, args: &RemoveArgs) -> Result<Exit, Failure> {
    let arguments: Vec<_> = args.address.iter().chain(&args.id).cloned().collect();
    let (address, rest) = context.given().leading(&arguments)?;
    let [id] = rest else { return Err(no_id()) };
    let id = id.to_str().filter(|id| is_prefix(id)).ok_or_else(no_id)?;
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    let removed = to_hex(&opened.repository.remove_slot(id, args.yes).await?);
    context.view.summary(&[format!("Removed key slot {}.", short(&removed))]);
    context.view.note(
        "Whoever copied it before can still use it with its password: nfz key rotate shuts them out of what comes.",
    );
    finish(context, opened, KeyReport::Remove { removed: vec![removed] }).await
}

fn no_id() -> Failure {
    Failure::usage("cannot tell which key slot is meant: give the first digits of its id")
        .hint("nfz key list ADDRESS shows them; the order is: nfz key remove ADDRESS ID")
}

fn is_prefix(id: &str) -> bool {
    (1..=32).contains(&id.len()) && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) async fn change(context: &Context, args: &ChangeArgs) -> Result<Exit, Failure> {
    let address = context.given().address(args.address.as_deref())?;
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    opened.repository.check_writable()?;
    let credentials = args.new.read(context, &address.to_string()).await?;
    let slot = to_hex(&opened.repository.change_slot(&credentials, &args.new.options()).await?);
    let done = format!("Changed: key slot {} is in the place of the one that opened the repository.", short(&slot));
    context.view.summary(&[done]);
    finish(context, opened, KeyReport::Change { slot }).await
}

pub(super) async fn rotate(context: &Context, args: &RotateArgs) -> Result<Exit, Failure> {
    let address = context.given().address(args.address.as_deref())?;
    let (opened, mut credentials) = open::open_for_keys(context, &address).await?;
    opened.repository.check_writable()?;
    if args.new.is_given() {
        credentials = args.new.read(context, &address.to_string()).await?;
    }
    let rotated = match rotate_with(&opened, &credentials, args, args.yes).await {
        Err(KeyError::OthersWouldGo(others)) if context.environment.interactive => {
            let others: Vec<String> = others.iter().map(|id| short(&to_hex(id)).to_owned()).collect();
            if !open::yes(format!("Other key slots will be removed: {}. Go on?", others.join(", "))).await? {
                return Err(Failure::failed("cannot go on: nothing was rotated, as you asked"));
            }
            rotate_with(&opened, &credentials, args, true).await?
        }
        other => other?,
    };
    context.view.summary(&summary(&rotated));
    finish(context, opened, (&rotated).into()).await
}

async fn rotate_with(
    opened: &Opened,
    credentials: &Credentials,
    args: &RotateArgs,
    others_may_go: bool,
) -> Result<Rotated, KeyError> {
    opened.repository.rotate(credentials, &args.new.options(), others_may_go).await
}

fn summary(rotated: &Rotated) -> Vec<String> {
    let removed = counted(rotated.removed.len() as u64, "older slot was", "older slots were");
    vec![
        format!(
            "Key epoch {} begins. Slot {} opens it; {removed} removed.",
            rotated.epoch,
            &to_hex(&rotated.slot)[..ID_SHOWN]
        ),
        "What is stored from now on has new keys. Whoever had an old password or a copy of an old slot can still"
            .into(),
        "read what was stored until now, also from a copy. Recovery kits printed before open only what is older."
            .into(),
    ]
}

async fn finish(context: &Context, opened: Opened, report: KeyReport) -> Result<Exit, Failure> {
    context.view.document(Document::KeyReport(report));
    opened.close().await;
    Ok(Exit::Done)
}

/// Why a slot opens nothing here, whatever is given.
pub(super) fn why_unusable(info: &SlotInfo) -> Option<String> {
    match &info.slot {
        Err(why) => Some(why.to_string()),
        Ok(_) if !info.is_ours => Some("it belongs to another repository".into()),
        Ok(_) => None,
    }
}

fn short(id: &str) -> &str {
    &id[..ID_SHOWN.min(id.len())]
}

/// The table, its heading first.
fn rows(slots: &[SlotInfo], zone: &TimeZone) -> Vec<String> {
    let heading = ["ID", "WRITTEN", "NEEDS", "EPOCH", "ARGON2ID", ""].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(heading).chain(slots.iter().map(|slot| row(slot, zone))).collect();
    table(&rows, &[3])
}

fn row(info: &SlotInfo, zone: &TimeZone) -> Vec<String> {
    let written = local_time(Time { seconds: info.modified, nanoseconds: 0 }, zone);
    let mark = if info.in_use { "in use now".to_owned() } else { why_unusable(info).unwrap_or_default() };
    let (needs, epoch, cost) = match info.slot.as_ref().ok().filter(|_| info.is_ours) {
        None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        Some(slot) => {
            let needs = match (slot.needs_password(), slot.needs_key_file()) {
                (true, true) => "password and key file",
                (true, false) => "password",
                _ => "key file",
            };
            let cost = slot.cost();
            let memory = Bytes(u64::from(cost.memory_kib) << 10);
            let shown = format!("{memory}, {} passes, {} lanes", cost.passes, cost.lanes);
            (needs.to_owned(), slot.epoch().to_string(), if slot.needs_password() { shown } else { "-".to_owned() })
        }
    };
    vec![short(&to_hex(&info.id)).to_owned(), written, needs, epoch, cost, mark]
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        let failure = Self::failed(format!("cannot change the keys: {error}"));
        match error {
            KeyError::Repository(error) => error.into(),
            KeyError::TooMany => failure.hint("remove one first: nfz key list, nfz key remove"),
            KeyError::NoSuchSlot { .. } => failure.hint("nfz key list shows the ids"),
            KeyError::LastSlot(_) => failure.hint("add another first: nfz key add; or: nfz key change"),
            KeyError::InUse(_) => failure
                .hint("give the password of another slot, which proves that one works; or --yes; or: nfz key change"),
            KeyError::NotProven => failure.hint("the server does not keep what it is given; nothing was changed"),
            KeyError::NoneInUse => failure.hint("open it with a password or key file"),
            KeyError::OthersWouldGo(_) => {
                failure.hint("with --yes they are removed; add their passwords again afterwards: nfz key add")
            }
            KeyError::RotationUnderWay => failure.hint("see nfz key list; if nobody else is at it, try again later"),
            KeyError::TooManyEpochs => failure.hint("make a new repository: nfz init"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::keys::{KdfCost, Slot, SlotError, SlotRandomness};
    use zeroize::Zeroizing;

    fn info(slot: Result<Slot, SlotError>, is_ours: bool) -> SlotInfo {
        SlotInfo { id: [0xab; 16], modified: 1_795_374_018, slot, is_ours, in_use: is_ours }
    }

    fn slot(password: bool) -> Slot {
        let credentials = Credentials {
            password: password.then(|| Zeroizing::new(b"word".to_vec())),
            key_file: Some(Zeroizing::new([1; 32])),
        };
        let cost = KdfCost { memory_kib: 19 << 10, passes: 1, lanes: 2 };
        let random = SlotRandomness { salt: [1; 32], nonce: [2; 24] };
        Slot::create([3; 16], 2, &Zeroizing::new([4; 32]), &credentials, cost, &random).unwrap()
    }

    #[test]
    fn a_slot_is_one_row_that_says_what_it_takes() {
        let slots = [info(Ok(slot(true)), true), info(Ok(slot(false)), false), info(Err(SlotError::Malformed), false)];
        let rows = rows(&slots, &TimeZone::UTC);
        assert_eq!(
            rows,
            [
                "ID        WRITTEN              NEEDS                  EPOCH  ARGON2ID",
                "abababab  2026-11-22 19:00:18  password and key file      2  19.0 MiB, 1 passes, 2 lanes  in use now",
                "abababab  2026-11-22 19:00:18  -                          -  -                            it belongs to another repository",
                "abababab  2026-11-22 19:00:18  -                          -  -                            it is not a key slot, or it is torn",
            ]
        );
    }

    #[test]
    fn an_id_is_its_first_digits() {
        assert!(["a", "3fa0", &"0".repeat(32)].into_iter().all(is_prefix));
        assert!(!["", "A", "xyz", "-1", &"0".repeat(33)].into_iter().any(is_prefix));
    }
}

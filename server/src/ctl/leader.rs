//! `move-leader`.

use clap::ArgMatches;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::{MoveLeaderRequest, StatusRequest};

use super::print::print_line;
use super::session::Session;
use super::{Failure, line};

/// Asks the leader, which must be one of the endpoints given, to hand over to a member.
pub(super) async fn move_leader(session: &Session, matches: &ArgMatches) -> Result<(), Failure> {
    let [target] = line::words_of(matches)[..] else {
        return Err(Failure::Arguments(
            "move-leader command needs 1 argument".to_owned(),
        ));
    };
    let target_id = u64::from_str_radix(target, 16)
        .map_err(|error| Failure::Arguments(format!("bad member ID arg ({error}), expecting ID in Hex")))?;
    for endpoint in session.endpoints() {
        let mut client = MaintenanceClient::new(session.connect_to(endpoint).await?);
        let status = session.call(client.status(StatusRequest {})).await?;
        let member = status.header.unwrap_or_default().member_id;
        if member != status.leader {
            continue;
        }
        let request = MoveLeaderRequest { target_id };
        session.call(client.move_leader(request)).await?;
        print_line(&format!(
            "Leadership transferred from {member:x} to {target_id:x}"
        ));
        return Ok(());
    }
    let given = session.endpoints().join(" ");
    Err(Failure::Arguments(format!(
        "no leader endpoint given at [{given}]"
    )))
}

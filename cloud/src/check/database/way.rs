//! Why the database cannot be asked: an error of the client, told apart.

use std::io;

use crate::check::Look;
use crate::explain::{Page, database as pages};
use crate::store::DatabaseError;
use crate::stream::consumer::chained;

type Told = (&'static Page, &'static str);

const UNUSABLE: Told = (
    &pages::UNUSABLE,
    "look up the answer; the server's log may say more",
);

/// Says what stands in the way.
pub(super) fn told(look: &mut Look, failure: &DatabaseError) {
    let (page, remedy) = match failure {
        DatabaseError::Silent { .. } => SILENT,
        DatabaseError::Unreachable { source, .. } | DatabaseError::Refused { source, .. } => {
            of_client(source)
        }
        _ => UNUSABLE,
    };
    look.bad(
        page,
        format!("{}: {}", page.title, chained(failure)),
        remedy,
    );
}

const SILENT: Told = (
    &pages::SILENT,
    "look at the address, the firewall and the machine of the database",
);

fn of_client(error: &sqlx::Error) -> Told {
    match error {
        sqlx::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => (
                &pages::REFUSED,
                "start PostgreSQL, or correct the port (5432 is usual)",
            ),
            io::ErrorKind::TimedOut => SILENT,
            _ if error.to_string().contains("lookup address") => (
                &pages::NAME,
                "correct the host in database.url; `getent hosts NAME` asks the same way",
            ),
            _ => UNUSABLE,
        },
        sqlx::Error::Database(error) => of_sqlstate(error.code().as_deref().unwrap_or_default()),
        _ => UNUSABLE,
    }
}

/// Source: PostgreSQL documentation, appendix A.
fn of_sqlstate(sqlstate: &str) -> Told {
    match sqlstate {
        "28P01" | "28000" => (
            &pages::LOGIN,
            "correct user and password in database.url, and see pg_hba.conf",
        ),
        "3D000" => (
            &pages::NO_DATABASE,
            "let an administrator run CREATE DATABASE, or correct the name",
        ),
        "53300" => (
            &pages::NO_ROOM,
            "close idle sessions, or raise max_connections or the role's limit",
        ),
        "42501" => (
            &pages::NO_RIGHT,
            "GRANT what docs/cloud-check.md lists to this role",
        ),
        _ => UNUSABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_their_page() {
        for (sqlstate, code) in [
            ("28P01", "E-DBS-004"),
            ("28000", "E-DBS-004"),
            ("3D000", "E-DBS-005"),
            ("53300", "E-DBS-006"),
            ("42501", "E-DBS-014"),
            ("57P03", "E-DBS-007"),
        ] {
            assert_eq!(of_sqlstate(sqlstate).0.code, code, "{sqlstate}");
        }
    }
}

//! The user that PostgreSQL runs as: ourselves, or, because it refuses root, a system user with no rights.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{DevstackError, Result};

/// A system user to run a child process as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The account for PostgreSQL: `None` means our own. `data` is its data directory, whose owner decides where it exists.
pub(crate) fn for_postgres(data: &Path) -> Result<Option<Account>> {
    let own = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(data).ok().map(|metadata| metadata.uid());
    if own != 0 {
        return match owner {
            Some(owner) if owner != own => {
                Err(DevstackError::ForeignData { path: data.to_path_buf(), owner })
            }
            _ => Ok(None),
        };
    }
    let users = users();
    let wanted = owner.filter(|uid| *uid != 0);
    let found = match wanted {
        Some(uid) => users.into_iter().find(|user| user.uid == uid),
        None => ["postgres", "nobody"]
            .iter()
            .find_map(|name| users.iter().find(|user| user.name == *name).cloned()),
    };
    match (found, wanted) {
        (Some(account), _) => Ok(Some(account)),
        (None, Some(owner)) => Err(DevstackError::ForeignData { path: data.to_path_buf(), owner }),
        (None, None) => Err(DevstackError::NoAccount),
    }
}

fn users() -> Vec<Account> {
    fs::read_to_string("/etc/passwd").unwrap_or_default().lines().filter_map(user).collect()
}

/// One line of the user database: `name:password:uid:gid:…`.
fn user(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { name, uid, gid })
}

/// Lets `command` run as `account`; supplementary groups are dropped by the standard library with the user id.
pub(crate) fn run_as(command: &mut Command, account: Option<&Account>) {
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
}

/// Whether `account` can enter `dir`. Asked of the system itself, for modes, ACLs and mounts all have a say.
pub(crate) fn can_enter(account: Option<&Account>, dir: &Path) -> bool {
    let Some(account) = account else { return true };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "cd -- \"$1\"", "sh"]).arg(dir).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    run_as(&mut command, Some(account));
    command.status().is_ok_and(|status| status.success())
}

/// Makes `dir` (its parents exist) with `mode`, owned by `account`.
pub(crate) fn make_dir(dir: &Path, mode: u32, account: Option<&Account>) -> Result<()> {
    fs::create_dir_all(dir).map_err(DevstackError::file("create", dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))
        .map_err(DevstackError::file("set the mode of", dir))?;
    match account {
        Some(account) => chown(dir, Some(account.uid), Some(account.gid))
            .map_err(DevstackError::file("change the owner of", dir)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_of_the_user_database_gives_name_user_and_group() {
        let account =
            user("postgres:x:101:104:PostgreSQL administrator:/var/lib/postgresql:/bin/bash").unwrap();
        assert_eq!(account, Account { name: "postgres".into(), uid: 101, gid: 104 });
        assert_eq!(user("# no user"), None);
    }
}

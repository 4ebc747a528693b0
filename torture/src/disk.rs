//! A small file system that can be filled to the last byte.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Its size in MiB: room for PostgreSQL, its log of at most 128 MiB, and the data of some hundred thousand events.
const SIZE_MIB: u32 = 3_000;

/// A mounted tmpfs; it is unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Mounts one; none where mounting is not allowed.
    pub fn mount(path: &Path) -> Option<Disk> {
        fs::create_dir_all(path).ok()?;
        let size = format!("size={SIZE_MIB}m,mode=0755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "stocktide-torture"]).arg(path);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        let disk = mounted.then(|| Disk { path: path.to_owned(), mounted })?;
        // Whom PostgreSQL runs as has to get in.
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).ok()?;
        Some(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Writes until nothing more fits, on a thread of its own: meanwhile other faults go on.
    ///
    /// # Errors
    /// The file cannot be made.
    pub async fn fill(&self) -> anyhow::Result<()> {
        let filler = self.filler();
        let fill = move || {
            let mut filler = File::create(filler)?;
            for block in [vec![1; 4 << 20], vec![1; 4 << 10], vec![1; 64]] {
                while filler.write_all(&block).is_ok() {}
            }
            Ok::<_, std::io::Error>(())
        };
        tokio::task::spawn_blocking(fill).await.context("the filler")?.context("the filler")
    }

    /// Gives the room back.
    pub fn empty(&self) {
        // It may not be there.
        let _ = fs::remove_file(self.filler());
    }

    /// Takes it away.
    ///
    /// # Errors
    /// Something still uses it.
    pub fn unmount(mut self) -> anyhow::Result<()> {
        self.mounted = false;
        let output = Command::new("umount").arg(&self.path).output().context("umount")?;
        ensure!(output.status.success(), "umount: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // What still uses it ends with us.
            let _ = Command::new("umount").arg("-l").arg(&self.path).output();
        }
    }
}

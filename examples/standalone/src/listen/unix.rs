//! Unix sockets: their files, and the permissions of those.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixSocket, UnixStream};

use super::{BACKLOG, Listener};

/// The file of a unix socket. Removed when dropped, unless another process has replaced it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), id: id(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if id(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of a file.
fn id(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Listens on a unix socket. A file that a previous process has left behind is removed.
pub(super) async fn bind(path: &Path, mode: u32) -> io::Result<Listener> {
    let socket = match try_bind(path, mode) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_stale(path).await?;
            try_bind(path, mode)?
        }
        bound => bound?,
    };
    let _file = Some(SocketFile::at(path)?);
    // The umask may have removed some permissions. Nobody can connect before the socket listens.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(Listener::Unix { listener: socket.listen(BACKLOG)?, _file })
}

fn try_bind(path: &Path, mode: u32) -> io::Result<UnixSocket> {
    let socket = UnixSocket::new_stream()?;
    // On Linux, the file then never has more permissions than these. Other systems refuse the call.
    let _ = File::from(socket.as_fd().try_clone_to_owned()?).set_permissions(Permissions::from_mode(mode));
    socket.bind(path)?;
    Ok(socket)
}

/// Removes a socket's file if no process listens there.
async fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "the file exists and is not a socket"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there")),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_has_no_other_permissions_from_the_start() {
        let path = std::env::temp_dir().join(format!("chat-bound-{}.sock", std::process::id()));
        for mode in [0o600, 0o000] {
            let bound = try_bind(&path, mode).expect("the path is free");
            let file = SocketFile::at(&path).expect("the file exists");
            let permissions = fs::metadata(&path).expect("the file exists").permissions();
            assert_eq!(permissions.mode() & 0o777, mode);
            drop((bound, file));
        }
    }
}

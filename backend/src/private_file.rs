//! Files with a secret that the backend makes by itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::secret;

/// Makes a file of one line that its owner alone can read, and says whether it did: not if it is there, also by
/// another process at this moment. It gets its name when it is whole and on the disk: a process that starts beside
/// this one must not find half of it, and a power cut must not leave a name alone.
///
/// # Errors
/// The file cannot be written, or the system gave no randomness.
pub fn make(file: &Path, line: &str) -> io::Result<bool> {
    let mut draft = file.as_os_str().to_owned();
    draft.push(format!(".{}", secret::uuid().map_err(io::Error::other)?));
    let draft = PathBuf::from(draft);
    let made = write_new(&draft, line).and_then(|()| match fs::hard_link(&draft, file) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
        Ok(()) => {
            let directory = file
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(true)
        }
    });
    let removed = fs::remove_file(&draft);
    made.and_then(|made| removed.map(|()| made))
}

fn write_new(file: &Path, line: &str) -> io::Result<()> {
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    opened.write_all(format!("{line}\n").as_bytes())?;
    opened.sync_all()
}

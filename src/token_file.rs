//! The file that the agent's token is kept in. It is replaced whole or not at all, also when the power fails.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Longest token, in bytes.
pub(crate) const LONGEST: usize = 4096;

/// Why the file is not replaced.
#[derive(Debug)]
pub struct Error {
    file: PathBuf,
    doing: &'static str,
    source: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            doing,
            source,
        } = self;
        write!(f, "{}: {doing}: {source}", file.display())
    }
}

impl std::error::Error for Error {}

/// A new file beside the one that it is to replace. What can fail for want of rights or room fails as early as it
/// can: a token that was asked for and cannot be kept is lost.
pub struct Replacement {
    /// Locked, so that two that replace the file do it one after the other.
    folder: File,
    /// Still under its temporary name.
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Replacement {
    /// Makes the new file, with room for any token, mode 0600 and the owner of the one that it will replace.
    ///
    /// # Errors
    /// The folder does not exist or cannot be written, its filesystem is full, or somebody else replaces the file
    /// at this moment.
    pub fn begin(path: &Path) -> Result<Self, Error> {
        let failed = |doing| {
            move |source| Error {
                file: path.to_owned(),
                doing,
                source,
            }
        };
        let name = path.file_name().ok_or_else(|| {
            failed("is not the name of a file")(io::Error::from(ErrorKind::InvalidInput))
        })?;
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(".new");
        let temporary = folder.join(temporary);
        let folder = File::open(folder).map_err(failed("opening its folder"))?;
        folder
            .try_lock()
            .map_err(|error| failed("another process is replacing it")(io::Error::from(error)))?;
        let new = || {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            options.open(&temporary)
        };
        let made = match new() {
            // One that was killed may have left it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&temporary).map_err(failed("removing what an earlier try left"))?;
                new()
            }
            made => made,
        };
        let file = made.map_err(failed("making a new file beside it"))?;
        let replacement = Self {
            folder,
            file,
            temporary,
            path: path.to_owned(),
        };
        replacement
            .keep_owner()
            .map_err(failed("giving the new file its owner"))?;
        replacement
            .reserve()
            .map_err(failed("making room for a token"))?;
        Ok(replacement)
    }

    /// An agent that runs as another user must be able to read the new file too.
    fn keep_owner(&self) -> io::Result<()> {
        let Ok(old) = fs::metadata(&self.path) else {
            return Ok(());
        };
        let new = self.file.metadata()?;
        if (old.uid(), old.gid()) == (new.uid(), new.gid()) {
            return Ok(());
        }
        fchown(&self.file, Some(old.uid()), Some(old.gid()))
    }

    /// Fills the file, down to the disk, so that the token is written over what has its room already. The bytes
    /// are random: flash filesystems compress, and would keep no room for zeros.
    fn reserve(&self) -> io::Result<()> {
        let random = RandomState::new();
        let filler: Vec<u8> = (0..=LONGEST / 8)
            .flat_map(|count| random.hash_one(count).to_ne_bytes())
            .collect();
        self.file.write_all_at(&filler, 0)?;
        self.file.sync_all()
    }

    /// Writes the token and puts the file in its place.
    ///
    /// # Errors
    /// The old file is still there, unchanged.
    pub fn finish(self, token: &str) -> Result<(), Error> {
        let line = format!("{token}\n");
        self.file
            .write_all_at(line.as_bytes(), 0)
            .and_then(|()| self.file.set_len(line.len() as u64))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path))
            .map_err(|source| Error {
                file: self.path.clone(),
                doing: "writing the token",
                source,
            })?;
        // The file is in its place; that this survives a power cut too is not in every filesystem's might.
        if let Err(error) = self.folder.sync_all() {
            log::warn!("{}: syncing its folder: {error}", self.path.display());
        }
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // Nothing is there any more once it is in its place.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("qod-token-file-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_replaced_and_private_whatever_was_there() {
        let folder = Folder::new("replaced");
        let path = folder.0.join("token");
        Replacement::begin(&path).unwrap().finish("one").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
        assert_eq!(mode(&path), 0o600);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(folder.0.join(".token.new"), "left behind").unwrap();
        let held = File::open(&path).unwrap();
        Replacement::begin(&path).unwrap().finish("two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(io::read_to_string(held).unwrap(), "one\n", "in one step");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(folder.names(), ["token"]);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let folder = Folder::new("given-up");
        let path = folder.0.join("token");
        drop(Replacement::begin(&path).unwrap());
        assert!(folder.names().is_empty());
        fs::create_dir(&path).unwrap();
        let error = Replacement::begin(&path).unwrap().finish("x").unwrap_err();
        assert!(error.to_string().contains("writing the token: "), "{error}");
        assert_eq!(folder.names(), ["token"]);
    }

    #[test]
    fn one_after_the_other() {
        let folder = Folder::new("one");
        let path = folder.0.join("token");
        let first = Replacement::begin(&path).unwrap();
        let error = Replacement::begin(&path).err().unwrap().to_string();
        assert!(error.contains("another process is replacing it"), "{error}");
        drop(first);
        assert!(Replacement::begin(&path).is_ok());
    }

    #[test]
    fn an_error_names_the_file_and_what_was_being_done() {
        let error = Replacement::begin(Path::new("/nonexistent/token")).err();
        let error = error.unwrap().to_string();
        assert!(
            error.starts_with("/nonexistent/token: opening its folder: "),
            "{error}"
        );
        assert!(Replacement::begin(Path::new("/")).is_err());
    }
}

//! How much memory the machine leaves to this process: physical memory, control groups, resource limits.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use spill_core::{Error, Result};

/// Files of a version 1 memory control group that limit it: hard, soft.
const V1_LIMITS: [&str; 2] = ["memory.limit_in_bytes", "memory.soft_limit_in_bytes"];

/// Files of a version 2 control group that limit its memory: hard, soft, softest.
const V2_LIMITS: [&str; 3] = ["memory.max", "memory.high", "memory.low"];

/// The memory that this process can have at most, in bytes, and what says so.
///
/// It is the least of the machine's physical memory, the limits of the process's control group and all above
/// it (version 1: hard and soft; version 2: `max`, `high`, `low`), and the soft `RLIMIT_RSS`. As in Dask's
/// `memory_limit`, a limit of 0 counts as none, since that is how an unset `memory.low` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemMemory {
    bytes: u64,
    said_by: PathBuf,
}

impl SystemMemory {
    /// Reads the limits of this process. Some ten small files; do it once.
    ///
    /// # Errors
    /// [`Io`](spill_core::ErrorKind::Io) when physical memory cannot be read, of kind `Unsupported` on
    /// systems other than Linux. A limit that cannot be read is logged and passed over.
    pub fn read() -> Result<Self> {
        if cfg!(target_os = "linux") {
            Self::read_under(Path::new("/"))
        } else {
            let unsupported =
                io::Error::new(io::ErrorKind::Unsupported, "system memory is read on Linux only");
            Err(Error::io("read", "/proc/meminfo", unsupported))
        }
    }

    /// As [`read`](Self::read), for a copy of `/proc` and `/sys` that lies under `root`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_under(root: &Path) -> Result<Self> {
        let meminfo = root.join("proc/meminfo");
        let text = fs::read_to_string(&meminfo).map_err(|error| Error::io("read", &meminfo, error))?;
        let bytes = physical(&text).ok_or_else(|| {
            let error = io::Error::new(io::ErrorKind::InvalidData, "no line \"MemTotal: <number> kB\"");
            Error::io("understand", &meminfo, error)
        })?;
        let mut least = SystemMemory { bytes, said_by: meminfo };
        let limits = root.join("proc/self/limits");
        least.lower_to(resident_limit(&read(&limits)), limits);
        for file in control_group_files(root) {
            least.lower_to(read(&file).trim().parse().ok(), file);
        }
        Ok(least)
    }

    /// A system that leaves `bytes` bytes, for tests and for those who know better.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Self {
        SystemMemory { bytes, said_by: PathBuf::new() }
    }

    /// The memory that this process can have, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file that holds the least of the limits; empty where no file was read.
    #[must_use]
    pub fn said_by(&self) -> &Path {
        &self.said_by
    }

    fn lower_to(&mut self, limit: Option<u64>, said_by: PathBuf) {
        if let Some(bytes) = limit.filter(|bytes| (1..self.bytes).contains(bytes)) {
            *self = SystemMemory { bytes, said_by };
        }
    }
}

/// The text of a file of limits, or nothing where there is none: files come and go with the kernel's version.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!("memory limits of {} are not known: {error}", path.display());
        }
        String::new()
    })
}

/// The bytes of physical memory that `/proc/meminfo` gives, in KiB, which it calls kB.
fn physical(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The soft limit of `RLIMIT_RSS` in `/proc/self/limits`, in bytes.
fn resident_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max resident set"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Every file that may limit the control group of this process, from its own up to the mounted root.
fn control_group_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (mount, own) in mounted_groups(root) {
        let top = root.join(mount.point.trim_start_matches('/'));
        for directory in own.ancestors().take_while(|directory| directory.starts_with(&top)) {
            files.extend(mount.limits().iter().map(|name| directory.join(name)));
        }
    }
    files
}

/// The directory of this process's own group in each hierarchy that accounts memory, and whether it is version 2.
pub(crate) fn own_groups(root: &Path) -> Vec<(bool, PathBuf)> {
    mounted_groups(root).into_iter().map(|(mount, own)| (mount.unified, own)).collect()
}

fn mounted_groups(root: &Path) -> Vec<(Mount, PathBuf)> {
    let own = read(&root.join("proc/self/cgroup"));
    let mounts = read(&root.join("proc/self/mountinfo"));
    let groups = mounts.lines().filter_map(Mount::parse).filter_map(|mount| {
        let group = own.lines().find_map(|line| mount.group(line))?;
        let directory = root.join(mount.point.trim_start_matches('/')).join(mount.within(group));
        Some((mount, directory))
    });
    groups.collect()
}

/// A mounted hierarchy of control groups that accounts memory: a line of `/proc/self/mountinfo`, whose fields
/// are described in proc_pid_mountinfo(5).
struct Mount {
    /// The group that is mounted, as a path within the hierarchy.
    group: String,
    /// Where it is mounted.
    point: String,
    unified: bool,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let unified = match filesystem.next()? {
            "cgroup2" => true,
            "cgroup" if filesystem.next_back()?.split(',').any(|option| option == "memory") => false,
            _ => return None,
        };
        let mut mount = mount.split(' ').skip(3);
        Some(Mount { group: unescaped(mount.next()?), point: unescaped(mount.next()?), unified })
    }

    /// The group of this hierarchy that a line of `/proc/self/cgroup` names: `id:controllers:path`.
    fn group<'a>(&self, line: &'a str) -> Option<&'a str> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let ours = if self.unified {
            controllers.is_empty()
        } else {
            controllers.split(',').any(|controller| controller == "memory")
        };
        ours.then_some(path)
    }

    /// Where `group` lies below the mount point. A container may see the path that its group has outside, or
    /// one that leads out of what is mounted; what is mounted is then the group itself.
    fn within<'a>(&self, group: &'a str) -> &'a Path {
        let path = Path::new(group).strip_prefix(&self.group).unwrap_or(Path::new(""));
        if path.components().all(|part| matches!(part, Component::Normal(_))) { path } else { Path::new("") }
    }

    fn limits(&self) -> &'static [&'static str] {
        if self.unified { &V2_LIMITS } else { &V1_LIMITS }
    }
}

/// Undoes the octal escapes that mountinfo has for blanks and backslashes.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_mount_points_are_escaped_in_octal() {
        assert_eq!(unescaped(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescaped(r"/odd\9"), r"/odd\9");
        assert_eq!(unescaped("/plain"), "/plain");
    }

    #[test]
    fn only_hierarchies_that_account_memory_count() {
        let v1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory";
        let mount = Mount::parse(v1).unwrap();
        assert_eq!((mount.group.as_str(), mount.point.as_str()), ("/", "/sys/fs/cgroup/memory"));
        assert_eq!(mount.group("4:memory:/a:b"), Some("/a:b"));
        assert_eq!(mount.group("5:cpu,memory:/c"), Some("/c"));
        assert_eq!(mount.group("0::/d"), None);
        assert!(Mount::parse("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu").is_none());
        assert!(Mount::parse("1 0 0:1 / / rw - ext4 /dev/sda rw").is_none());
        assert!(Mount::parse("nonsense").is_none());
        let v2 = Mount::parse("41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw").unwrap();
        assert_eq!(v2.group("0::/d"), Some("/d"));
        assert_eq!(v2.group("4:memory:/a"), None);
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_what_is_mounted() {
        let mount = |group: &str| Mount { group: group.to_owned(), point: "/m".to_owned(), unified: true };
        assert_eq!(mount("/").within("/a/b"), Path::new("a/b"));
        assert_eq!(mount("/docker/1").within("/docker/1/x"), Path::new("x"));
        assert_eq!(mount("/docker/1").within("/docker/1"), Path::new(""));
        assert_eq!(mount("/docker/1").within("/elsewhere"), Path::new(""));
        assert_eq!(mount("/").within("/../sibling"), Path::new(""));
    }
}

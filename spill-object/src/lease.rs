//! Who lives, and what the dead left behind.
//!
//! Each process keeps its objects in a folder of its own, named by a number drawn at random, and writes the lease
//! object in it from time to time. Ages are told by the store's clock alone, so that wrong clocks of machines do no
//! harm.

use std::time::Duration;

use object_store::ObjectMeta;
use object_store::path::Path;
use spill_core::{Error, Result};

use crate::client::{Client, DELETED_AT_ONCE};
use crate::failure::Failure;
use crate::retry::Tries;
use crate::{ObjectsConfig, Store};

/// What names of folders begin with.
const OWNER: &str = "overspill-";

/// The lease object of a folder.
const LEASE: &str = "lease";

/// The folder of one process: 128 bits at random.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    name: String,
}

impl Owner {
    /// A new name, and a number at random for other ends.
    pub(crate) fn draw() -> Result<(Self, u64)> {
        let mut random = [0; 24];
        getrandom::fill(&mut random)
            .map_err(|error| Error::io("read random bytes from", "the operating system", error.into()))?;
        let (name, seed) = random.split_at(16);
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let seed = seed.first_chunk().map_or(0, |seed| u64::from_le_bytes(*seed));
        Ok((Owner { name: format!("{OWNER}{hex}") }, seed))
    }

    pub(crate) fn folder(&self, store: &Store) -> Path {
        store.path(&self.name)
    }

    fn lease(&self, store: &Store) -> Path {
        self.folder(store).join(LEASE)
    }

    /// The path of an object. Its first part spreads the objects of a process over 256 prefixes, since stores bound
    /// the requests a second for each.
    pub(crate) fn object(&self, store: &Store, number: u64) -> Path {
        let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
        self.folder(store).join(format!("{spread:02x}")).join(format!("{number:08x}"))
    }

    /// Whether a folder is one of a process.
    fn is_name(name: &str) -> bool {
        let hex = name.strip_prefix(OWNER).unwrap_or_default();
        hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

impl Client {
    /// Writes the lease, or renews it.
    pub(crate) async fn write_lease(&self, owner: &Owner, tries: Tries) -> Result<(), Failure> {
        let text = format!(
            "Written by Overspill process {} while it uses the objects in this folder.\n",
            std::process::id()
        );
        self.put(&owner.lease(&self.store), &text.into(), tries).await.map(drop)
    }

    /// Deletes all objects of an owner, the lease last: until then the folder is not taken for one that was left.
    pub(crate) async fn delete_owner(&self, owner: &Owner) -> Result<(), Failure> {
        let lease = owner.lease(&self.store);
        let found = self.list(&owner.folder(&self.store)).await?;
        let data: Vec<Path> =
            found.into_iter().map(|meta| meta.location).filter(|path| *path != lease).collect();
        for some in data.chunks(DELETED_AT_ONCE) {
            self.delete(some, Tries::Many).await?;
        }
        self.delete(&[lease], Tries::Many).await
    }
}

/// What a process left in a store, and how long it has been silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    owner: String,
    /// Objects in its folder, the lease included.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long ago it last wrote its lease; without one, its last object.
    pub silent: Duration,
}

impl Leftover {
    /// The folder's name, below the store's prefix.
    #[must_use]
    pub fn folder(&self) -> &str {
        &self.owner
    }
}

/// Lists what processes left under the prefix of `store` that have been silent for longer than `silent`. Processes
/// that live write their lease every five minutes ([`ObjectsConfig::lease_interval`]), so an hour tells the dead from
/// the living, and a day also from those that slept. Nothing is deleted: show it, then [`purge`] it.
///
/// To learn the store's own time it puts an object of no bytes for a moment.
///
/// # Errors
/// [`Backend`](spill_core::ErrorKind::Backend) when the store cannot be listed, read or written.
pub async fn leftovers(store: &Store, silent: Duration) -> Result<Vec<Leftover>> {
    let (owner, seed) = Owner::draw()?;
    let client = Client::new(&ObjectsConfig::new(store.clone()), seed);
    look_for(&client, &owner, silent).await.map_err(|failure| failure.into_error(store.to_string()))
}

async fn look_for(client: &Client, own: &Owner, silent: Duration) -> Result<Vec<Leftover>, Failure> {
    let store = &client.store;
    let now = store_time(client, own).await?;
    let mut found = Vec::new();
    for name in client.folders(&store.prefix).await?.into_iter().filter(|name| Owner::is_name(name)) {
        let owner = Owner { name };
        let Some(since) = silence(client, &owner, &now).await?.filter(|since| *since > silent) else {
            continue;
        };
        let objects = client.list(&owner.folder(store)).await?;
        found.push(Leftover {
            objects: objects.len() as u64,
            bytes: objects.iter().map(|meta| meta.size).sum(),
            silent: since,
            owner: owner.name,
        });
    }
    found.sort_unstable_by(|a, b| b.silent.cmp(&a.silent).then_with(|| a.owner.cmp(&b.owner)));
    Ok(found)
}

/// Deletes what [`leftovers`] found, and says how many objects went. A process that has written its lease since then
/// lives after all, and keeps everything.
///
/// # Errors
/// [`Backend`](spill_core::ErrorKind::Backend) when something could not be deleted; what was not can be found again.
pub async fn purge(store: &Store, leftovers: &[Leftover]) -> Result<u64> {
    let (own, seed) = Owner::draw()?;
    let client = Client::new(&ObjectsConfig::new(store.clone()), seed);
    delete_dead(&client, &own, leftovers).await.map_err(|failure| failure.into_error(store.to_string()))
}

async fn delete_dead(client: &Client, own: &Owner, leftovers: &[Leftover]) -> Result<u64, Failure> {
    let mut deleted = 0;
    if leftovers.is_empty() {
        return Ok(deleted);
    }
    let now = store_time(client, own).await?;
    for leftover in leftovers.iter().filter(|leftover| Owner::is_name(&leftover.owner)) {
        let owner = Owner { name: leftover.owner.clone() };
        match silence(client, &owner, &now).await? {
            // silence only grows unless somebody writes
            Some(silent) if silent >= leftover.silent => {
                client.delete_owner(&owner).await?;
                deleted += leftover.objects;
            }
            Some(_) => tracing::info!(folder = owner.name, "its process lives after all, so it is kept"),
            None => {}
        }
    }
    Ok(deleted)
}

/// An object written just now: its time is the store's.
async fn store_time(client: &Client, own: &Owner) -> Result<ObjectMeta, Failure> {
    let marker = client.store.path(&format!("{}-time", own.name));
    client.put(&marker, &Default::default(), Tries::Many).await?;
    let now = client.head(&marker, Tries::Many).await;
    client.delete(&[marker], Tries::Many).await?;
    now?.ok_or_else(|| Failure::transient("an object that was just written is not there"))
}

/// How long an owner has been silent; `None` when it has no object.
async fn silence(client: &Client, owner: &Owner, now: &ObjectMeta) -> Result<Option<Duration>, Failure> {
    let since = |meta: &ObjectMeta| (now.last_modified - meta.last_modified).to_std().unwrap_or_default();
    if let Some(lease) = client.head(&owner.lease(&client.store), Tries::Many).await? {
        return Ok(Some(since(&lease)));
    }
    let objects = client.list(&owner.folder(&client.store)).await?;
    Ok(objects.iter().map(since).min())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_drawn_here_are_names_of_owners() {
        let (owner, _) = Owner::draw().unwrap();
        assert!(Owner::is_name(&owner.name));
        assert_ne!(owner.name, Owner::draw().unwrap().0.name);
        for name in
            ["", "overspill-", "overspill-time", "other", &owner.name[1..], &format!("{}0", owner.name)]
        {
            assert!(!Owner::is_name(name), "{name}");
        }
    }

    #[test]
    fn objects_are_spread_over_prefixes() {
        let store = Store::open("memory:///p").unwrap();
        let (owner, _) = Owner::draw().unwrap();
        let folders: std::collections::HashSet<String> = (0..256)
            .map(|n| owner.object(&store, n).as_ref().split('/').nth(2).unwrap().to_owned())
            .collect();
        assert!(folders.len() > 100, "{}", folders.len());
        assert!(owner.object(&store, 7).to_string().starts_with(&format!("p/{}/", owner.name)));
    }
}

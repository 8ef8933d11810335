//! Inspection of the pins of an instance, which changes nothing.

use std::{collections::BTreeSet, fs};

use aya::{
    Pod,
    maps::{Array, Map, MapData},
};
use linkbal_common::{
    bucket::Bucket,
    maps::{self, kind},
    settings::LAYOUT,
    uplink::UpMask,
};
use nix::net::if_::if_nameindex;

use super::{attach, cgroup};
use crate::{
    engine::plan::Pinned,
    sys::{
        host::instance::{Instance, is_bpffs_mounted},
        removed::Removed,
    },
};

/// Reads the pins of an instance; `buckets` is the number of buckets that matter.
pub fn inspect(instance: &Instance, buckets: usize) -> Pinned {
    let entries = fs::read_dir(&instance.bpf_dir).into_iter().flatten().flatten();
    let names: BTreeSet<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let settings = array(instance, maps::SETTINGS).and_then(|map| first(&map));
    let is_current = settings.is_some_and(|settings| settings.layout == LAYOUT);
    let map = array(instance, maps::BUCKETS).filter(|_| is_current);
    let read = |map: Array<MapData, Bucket>| {
        (0..buckets as u32).map(|number| map.get(&number, 0).ok()).collect::<Option<Vec<_>>>()
    };
    Pinned {
        mounted: is_bpffs_mounted(),
        interfaces: attach::interfaces(instance, &names),
        own_traffic: cgroup::is_attached(&instance.bpf_dir),
        buckets: map.and_then(read),
        up: array(instance, maps::UP_MASK).and_then(|map| first(&map)).map(UpMask),
        names,
    }
}

/// Returns what a removal of the pins of an instance takes away.
pub fn removable(instance: &Instance) -> Removed {
    let Pinned { interfaces, names, .. } = inspect(instance, 0);
    let known = if_nameindex();
    let known = known.iter().flat_map(|all| all.iter());
    let named = known.filter(|interface| interfaces.contains(&interface.index()));
    let interfaces = named.map(|interface| interface.name().to_string_lossy().into_owned());
    Removed { interfaces: interfaces.collect(), pins: names.len(), ..Removed::default() }
}

fn array<M>(instance: &Instance, _: M) -> Option<Array<MapData, M::Value>>
where
    M: maps::Map<Kind = kind::Array, Value: Pod>,
{
    let data = MapData::from_pin(instance.bpf_dir.join(M::NAME)).ok()?;
    Array::try_from(Map::Array(data)).ok()
}

fn first<V: Pod>(map: &Array<MapData, V>) -> Option<V> {
    map.get(&0, 0).ok()
}

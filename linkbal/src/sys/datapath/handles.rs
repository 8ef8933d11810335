//! Maps by their declarations, which know the types of keys and values.

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray},
};
use linkbal_common::{
    maps::{self, kind},
    tables::PrefixData,
};

use super::{Datapath, batch, map_data};

impl Datapath {
    /// Returns a map by its name, for inspection.
    ///
    /// # Errors
    ///
    /// If the object has no such map; the same holds for all below.
    pub fn map(&self, name: &str) -> Result<&Map> {
        self.ebpf.map(name).with_context(|| format!("failed to find map {name}"))
    }

    fn map_mut(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("failed to find map {name}"))
    }

    /// Returns an array.
    pub fn array<M>(&self, _: M) -> Result<Array<&MapData, M::Value>>
    where
        M: maps::Map<Kind = kind::Array, Value: Pod>,
    {
        Ok(Array::try_from(self.map(M::NAME)?)?)
    }

    pub(super) fn array_mut<M>(&mut self, _: M) -> Result<Array<&mut MapData, M::Value>>
    where
        M: maps::Map<Kind = kind::Array, Value: Pod>,
    {
        Ok(Array::try_from(self.map_mut(M::NAME)?)?)
    }

    /// Returns an array with values for each CPU.
    pub fn per_cpu_array<M>(&self, _: M) -> Result<PerCpuArray<&MapData, M::Value>>
    where
        M: maps::Map<Kind = kind::PerCpuArray, Value: Pod>,
    {
        Ok(PerCpuArray::try_from(self.map(M::NAME)?)?)
    }

    pub(super) fn per_cpu_array_mut<M>(
        &mut self,
        _: M,
    ) -> Result<PerCpuArray<&mut MapData, M::Value>>
    where
        M: maps::Map<Kind = kind::PerCpuArray, Value: Pod>,
    {
        Ok(PerCpuArray::try_from(self.map_mut(M::NAME)?)?)
    }

    /// Returns a hash table.
    pub fn hash<M>(&self, _: M) -> Result<HashMap<&MapData, M::Key, M::Value>>
    where
        M: maps::Map<Kind: kind::Hash, Key: Pod, Value: Pod>,
    {
        Ok(HashMap::try_from(self.map(M::NAME)?)?)
    }

    pub(super) fn hash_mut<M>(&mut self, _: M) -> Result<HashMap<&mut MapData, M::Key, M::Value>>
    where
        M: maps::Map<Kind: kind::Hash, Key: Pod, Value: Pod>,
    {
        Ok(HashMap::try_from(self.map_mut(M::NAME)?)?)
    }

    pub(super) fn trie<M>(&self, _: M) -> Result<LpmTrie<&MapData, PrefixData, M::Value>>
    where
        M: maps::Map<Kind = kind::LpmTrie, Key = PrefixData, Value: Pod>,
    {
        Ok(LpmTrie::try_from(self.map(M::NAME)?)?)
    }

    pub(super) fn trie_mut<M>(
        &mut self,
        _: M,
    ) -> Result<LpmTrie<&mut MapData, PrefixData, M::Value>>
    where
        M: maps::Map<Kind = kind::LpmTrie, Key = PrefixData, Value: Pod>,
    {
        Ok(LpmTrie::try_from(self.map_mut(M::NAME)?)?)
    }

    /// Hands each entry of a map to `each`, as [`batch::for_each`] does.
    pub(super) fn for_each<M>(&self, _: M, each: impl FnMut(&M::Key, &M::Value)) -> Result<()>
    where
        M: maps::Map<Key: Pod, Value: Pod>,
    {
        Ok(batch::for_each(map_data(self.map(M::NAME)?)?, each)?)
    }
}

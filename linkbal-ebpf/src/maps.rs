//! The maps, from their declarations.

use aya_ebpf::{
    btf_maps::{Array, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray, SkStorage},
    macros::btf_map,
};
use linkbal_common::{
    for_each_map,
    maps::{self, Map},
};

/// Makes the static of a map.
macro_rules! map_static {
    ($name:ident, SkStorage) => {
        #[btf_map]
        pub(crate) static $name: SkStorage<<maps::$name as Map>::Value> = SkStorage::new();
    };
    ($name:ident, DevMapHash) => {
        #[btf_map]
        pub(crate) static $name: DevMapHash<{ <maps::$name as Map>::ENTRIES }> = DevMapHash::new();
    };
    ($name:ident, Array) => { map_static!($name, Array of [Value]); };
    ($name:ident, PerCpuArray) => { map_static!($name, PerCpuArray of [Value]); };
    ($name:ident, $kind:ident) => { map_static!($name, $kind of [Key, Value]); };
    ($name:ident, $kind:ident of [$($type:ident),*]) => {
        #[btf_map]
        pub(crate) static $name: $kind<
            $(<maps::$name as Map>::$type,)*
            { <maps::$name as Map>::ENTRIES },
        > = $kind::new();
    };
}

macro_rules! statics {
    ($(
        #[doc = $what:literal]
        $name:ident: $kind:ident<$key:ty, $value:ty>, $entries:expr, $lifetime:ident;
    )*) => {
        $(map_static!($name, $kind);)*
    };
}
for_each_map!(statics);

/// Returns `value`, unknown to the verifier.
#[inline(always)]
pub(crate) fn opaque(value: u32) -> u32 {
    // The verifier does not know either that the look-up cannot fail; no packet is that long.
    let Some(word) = SCRATCH.get_ptr_mut(0) else { return u32::MAX };
    // SAFETY: this CPU's word is ours alone.
    unsafe {
        word.write_volatile(value);
        word.read_volatile()
    }
}

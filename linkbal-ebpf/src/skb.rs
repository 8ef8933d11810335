//! A packet as the kernel passes it to the programs.
//!
//! **Alignment.** Headers are read and written in place by plain pointers, whether they are aligned or not:
//! IP headers behind one of Ethernet are not, for Rust. The kernel's BPF has no aligned loads, its verifier
//! lets packets be read at any offset, and LLVM makes nothing of the alignment but the width of loads. With
//! `read_unaligned`, or packed structs, it takes words apart to bytes: the code of shortcuts gets 20 to 40 %
//! longer. So this stays what each object is tested for, not what the language promises.

use core::hint::black_box;

use aya_ebpf::{
    helpers::{bpf_skb_load_bytes, generated::bpf_check_mtu},
    programs::TcContext,
};
use linkbal_common::{
    dns::reply::{ReplyBytes, SIZE},
    packet::{Header, MAX_OFFSET, Packet},
    parse::VLAN_BITS,
};

use crate::maps::opaque;

/// The socket buffer of the running program; `L3` ones have no link-layer header.
pub(crate) struct Skb<'a, const L3: bool>(pub(crate) &'a TcContext);

impl<const L3: bool> Packet for Skb<'_, L3> {
    /// Reads from the linear part if the header is there, and by the helper if not.
    #[inline(always)]
    fn load<T: Header>(&self, offset: u32) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        // LLVM would drop the mask after the check above, and the verifier may not see that check
        // on the copy of the register that is used here.
        let start = self.0.data() + (black_box(offset) & MAX_OFFSET) as usize;
        if start + size_of::<T>() <= self.0.data_end() {
            // SAFETY: the verifier has just seen that the header lies inside the packet; for its
            // alignment, see the top.
            return Some(unsafe { *(start as *const T) });
        }
        self.load_cold(offset)
    }

    #[inline(always)]
    fn load_linear<T: Header>(&self, offset: u32) -> Option<T> {
        let start = self.0.data() + offset as usize;
        if start + size_of::<T>() > self.0.data_end() {
            return None;
        }
        // SAFETY: as above.
        Some(unsafe { *(start as *const T) })
    }

    #[inline(always)]
    fn load_cold<T: Header>(&self, offset: u32) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let mut header = core::mem::MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes exactly the size of the header or fails.
        let status = unsafe {
            bpf_skb_load_bytes(
                self.0.skb.skb.cast(),
                offset,
                header.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            )
        };
        // SAFETY: the helper has succeeded and so written the whole header.
        if status == 0 { Some(unsafe { header.assume_init() }) } else { None }
    }

    #[inline(always)]
    fn copy(&self, offset: u32, to: &mut ReplyBytes) -> Option<u32> {
        // The verifier must see the bounds on the register that the helper gets; before Linux 6.3,
        // it does not learn the lower one from a comparison with zero.
        let all_but_one = self.0.len().checked_sub(offset)?.checked_sub(1)?;
        let length = black_box(all_but_one).min(SIZE as u32 - 1) + 1;
        // SAFETY: the helper writes at most `SIZE` bytes, for which there is room, or fails.
        let status = unsafe {
            bpf_skb_load_bytes(self.0.skb.skb.cast(), offset, to.as_mut_ptr().cast(), length)
        };
        if status == 0 { Some(length) } else { None }
    }

    #[inline(always)]
    fn opaque(&self, value: u32) -> u32 {
        opaque(value)
    }

    #[inline(always)]
    fn l3_ether_type(&self) -> Option<u16> {
        // SAFETY: the context is valid for the length of the program.
        if L3 { Some(unsafe { (*self.0.skb.skb).protocol } as u16) } else { None }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.0.len()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid for the length of the program.
        unsafe { (*self.0.skb.skb).ifindex }
    }

    #[inline(always)]
    fn hash(&self) -> u32 {
        // SAFETY: the context is valid for the length of the program.
        unsafe { (*self.0.skb.skb).hash }
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        // SAFETY: the context is valid for the length of the program.
        unsafe { (*self.0.skb.skb).gso_size }
    }

    #[inline(always)]
    fn priority(&self) -> u32 {
        // SAFETY: the context is valid for the length of the program.
        unsafe { (*self.0.skb.skb).priority }
    }

    #[inline(always)]
    fn mtu(&self) -> u32 {
        let mut mtu = 0;
        // SAFETY: the helper writes the word, whatever it thinks of the packet's length.
        unsafe { bpf_check_mtu(self.0.skb.skb.cast(), 0, &raw mut mtu, 0, 0) };
        mtu
    }

    #[inline(always)]
    fn vlan(&self) -> u16 {
        // SAFETY: the context is valid for the length of the program.
        let skb = unsafe { &*self.0.skb.skb };
        if skb.vlan_present == 0 { 0 } else { skb.vlan_tci as u16 & VLAN_BITS }
    }

    #[inline(always)]
    fn fwmark(&self) -> u32 {
        // SAFETY: the context is valid for the length of the program.
        unsafe { (*self.0.skb.skb).mark }
    }
}

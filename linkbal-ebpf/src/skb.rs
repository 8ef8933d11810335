//! A packet as the kernel hands it over.

use aya_ebpf::{helpers::bpf_skb_load_bytes, programs::TcContext};
use linkbal_common::packet::{Header, MAX_OFFSET, Packet};

/// The socket buffer of the running program.
pub(crate) struct Skb<'a>(pub(crate) &'a TcContext);

impl Packet for Skb<'_> {
    /// Reads from the linear part where the header lies there, and by the helper where not.
    #[inline(always)]
    fn load<T: Header>(&self, offset: u32) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let start = self.0.data() + (offset & MAX_OFFSET) as usize;
        if start + size_of::<T>() <= self.0.data_end() {
            // SAFETY: the verifier has just seen that the header lies inside the packet. Loads
            // of the kernel's BPF need no alignment.
            return Some(unsafe { *(start as *const T) });
        }
        self.load_cold(offset)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.0.len()
    }

    #[inline(always)]
    fn fwmark(&self) -> u32 {
        // SAFETY: the context is valid for the length of the program.
        unsafe { (*self.0.skb.skb).mark }
    }
}

impl Skb<'_> {
    #[inline(always)]
    fn load_cold<T: Header>(&self, offset: u32) -> Option<T> {
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
}

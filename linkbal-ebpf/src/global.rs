//! Functions that the verifier checks on their own.

/// Makes global functions of functions of a packet: the verifier checks each once, and not once more for
/// each path that leads to it. They return a number.
macro_rules! global {
    ($($name:ident = $of:expr;)*) => {
        $(
            #[inline(never)]
            #[unsafe(no_mangle)]
            extern "C" fn $name(skb: *mut aya_ebpf::bindings::__sk_buff) -> i32 {
                $of(&aya_ebpf::programs::TcContext::new(skb))
            }
        )*
    };
}
pub(crate) use global;

//! The two programs around the gateway: the generator makes frames, the sink counts and drops them.
//!
//! Each is a few instructions written by hand, so that its share of a figure is small, known and
//! the same for all. They share three maps with this process.

use anyhow::Result;

use crate::{
    bpf::{BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP, Devices, Next, Plain, Program, Shared},
    frame::{FRAME_SIZE, Frame},
};

/// Maximum number of flows: the length of the maps of frames.
pub(crate) const MAX_FLOWS: usize = 1 << 16;

/// The counters and switches of both programs.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct State {
    /// The next frame of the table.
    pub(crate) next: u64,
    /// Number of frames in the table, after which the first one comes again.
    pub(crate) length: u64,
    /// Number of frames that came to the sink.
    pub(crate) arrived: u64,
    /// Non-zero while the sink keeps what comes.
    pub(crate) recording: u64,
}

impl Plain for State {}

/// A frame as it came to the sink, and the interface that it was about to leave by.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) frame: Frame,
    pub(crate) interface: u64,
}

impl Plain for Record {}
impl Plain for Frame {}

/// The programs and their maps.
pub(crate) struct Programs {
    pub(crate) state: Shared<State>,
    /// The frames to send.
    pub(crate) table: Shared<Frame>,
    pub(crate) records: Shared<Record>,
    pub(crate) generator: Program,
    pub(crate) sink: Program,
    /// The same two for gateways that work at the driver: after the generator comes the program in
    /// `next`, and the sink runs at the far end of each interface.
    pub(crate) driver_generator: Program,
    pub(crate) driver_sink: Program,
    pub(crate) next: Next,
    /// A forwarder at the driver, and the interfaces that it may send out by.
    pub(crate) forwarder: Program,
    pub(crate) devices: Devices,
}

impl Programs {
    pub(crate) fn load() -> Result<Self> {
        let state = Shared::new(1)?;
        let (table, records) = (Shared::new(MAX_FLOWS)?, Shared::new(MAX_FLOWS)?);
        let passing = generator(&state, &table, &[set(R0, XDP_PASS)]);
        let next = Next::new()?;
        let going_on = generator(&state, &table, &go_on(&next));
        let devices = Devices::new()?;
        let sink = |hook| sink(&state, &records, hook);
        Ok(Self {
            generator: Program::load(BPF_PROG_TYPE_XDP, &passing)?,
            sink: Program::load(BPF_PROG_TYPE_SCHED_CLS, &sink(&TC))?,
            driver_generator: Program::load(BPF_PROG_TYPE_XDP, &going_on)?,
            driver_sink: Program::load(BPF_PROG_TYPE_XDP, &sink(&XDP))?,
            forwarder: Program::load(BPF_PROG_TYPE_XDP, &forwarder(&devices))?,
            devices,
            next,
            state,
            table,
            records,
        })
    }
}

const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const TC_ACT_OK: i32 = 0;
const TC_ACT_SHOT: i32 = 2;

/// A place where the sink runs: offsets in its context, and what it returns.
struct Hook {
    length: Option<i16>,
    data: i16,
    data_end: i16,
    ifindex: i16,
    pass: i32,
    drop: i32,
}

/// The egress of an interface (`struct __sk_buff`).
const TC: Hook = Hook {
    length: Some(0),
    data: 76,
    data_end: 80,
    ifindex: 40,
    pass: TC_ACT_OK,
    drop: TC_ACT_SHOT,
};
/// The driver of its far end (`struct xdp_md`).
const XDP: Hook =
    Hook { length: None, data: 0, data_end: 4, ifindex: 12, pass: XDP_PASS, drop: XDP_DROP };

/// Registers: of the packet and of the state, which calls leave alone, and of the stack.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const CONTEXT: u8 = 6;
const PACKET: u8 = 7;
const STATE: u8 = 8;
const STACK: u8 = 10;

/// Offsets in [`State`].
const NEXT: i16 = 0;
const LENGTH: i16 = 8;
const ARRIVED: i16 = 16;
const RECORDING: i16 = 24;

/// Returns the end of a generator after which another program goes on.
fn go_on(next: &Next) -> [u64; 6] {
    const BPF_PSEUDO_MAP_FD: u8 = 1;
    const TAIL_CALL: i32 = 12;
    [
        copy(R1, CONTEXT),
        instruction(0x18, R2, BPF_PSEUDO_MAP_FD, 0, next.raw_fd()),
        0,
        set(R3, 0),
        instruction(0x85, 0, 0, 0, TAIL_CALL),
        set(R0, XDP_DROP),
    ]
}

/// Returns the program that turns each frame into the next one of the table, and ends with `action`.
fn generator(state: &Shared<State>, table: &Shared<Frame>, action: &[u64]) -> Vec<u64> {
    let end = action.len() as i16;
    let mut code = vec![
        // The packet begins here (`struct xdp_md`: data, data_end), and must be long enough.
        load32(PACKET, R1, 0),
        load32(R2, R1, 4),
        copy(CONTEXT, R1),
        copy(R3, PACKET),
        add(R3, FRAME_SIZE as i32),
        skip_if_greater(R3, R2, 32 + end),
    ];
    code.extend(address_of_value(STATE, state.raw_fd()));
    code.extend([
        // The index of this frame is kept on the stack; behind the last one comes the first.
        load64(R1, STATE, NEXT),
        store32(STACK, -4, R1),
        add(R1, 1),
        load64(R3, STATE, LENGTH),
        skip_if_less(R1, R3, 1),
        set(R1, 0),
        store64(STATE, NEXT, R1),
    ]);
    code.extend(look_up(table.raw_fd(), 17 + end));
    code.extend(copy_frame(PACKET, R0));
    code.extend(action);
    code.extend([EXIT, set(R0, 0), EXIT]);
    code
}

/// Returns the program that forwards IPv4 as `samples/bpf/xdp_fwd_kern.c` of Linux 6.1 does: the kernel is
/// asked for the route and the neighbour, and the frame leaves with another TTL and other MAC addresses.
fn forwarder(devices: &Devices) -> Vec<u64> {
    const ETHER_TYPE_IPV4: i32 = 0x0008;
    const AF_INET: i32 = 2;
    const FIB_LOOKUP: i32 = 69;
    const REDIRECT_MAP: i32 = 51;
    const MAP_LOOKUP_ELEM: i32 = 1;
    /// Offsets in the frame: of the IP header's fields.
    const TOS: i16 = 15;
    const TOTAL_LENGTH: i16 = 16;
    const TTL: i16 = 22;
    const PROTOCOL: i16 = 23;
    const CHECKSUM: i16 = 24;
    const SOURCE: i16 = 26;
    const DESTINATION: i16 = 30;
    /// The question on the stack (`struct bpf_fib_lookup`), its size, and its fields' offsets.
    const QUESTION: i16 = -64;
    const QUESTION_SIZE: i32 = 64;
    const QUESTION_IFINDEX: i16 = QUESTION + 8;
    const QUESTION_MACS: [i16; 2] = [QUESTION + 58, QUESTION + 52];
    let map = |register| [instruction(0x18, register, 1, 0, devices.raw_fd()), 0];
    let mut question = vec![set(R1, 0)];
    question.extend((0..8).map(|word| store64(STACK, QUESTION + 8 * word, R1)));
    question.extend([
        set(R1, AF_INET),
        store8(STACK, QUESTION, R1),
        load8(R1, PACKET, PROTOCOL),
        store8(STACK, QUESTION + 1, R1),
        load16(R1, PACKET, TOTAL_LENGTH),
        swap16(R1),
        store16(STACK, QUESTION + 6, R1),
        load32(R1, CONTEXT, 12),
        store32(STACK, QUESTION_IFINDEX, R1),
        load8(R1, PACKET, TOS),
        store8(STACK, QUESTION + 12, R1),
        load32(R1, PACKET, SOURCE),
        store32(STACK, QUESTION + 16, R1),
        load32(R1, PACKET, DESTINATION),
        store32(STACK, QUESTION + 32, R1),
        copy(R1, CONTEXT),
        copy(R2, STACK),
        add(R2, QUESTION.into()),
        set(R3, QUESTION_SIZE),
        set(R4, 0),
        instruction(0x85, 0, 0, 0, FIB_LOOKUP),
    ]);
    // As the sample: is the interface one of ours?
    let mut known = map(R1).to_vec();
    known.extend([
        copy(R2, STACK),
        add(R2, QUESTION_IFINDEX.into()),
        instruction(0x85, 0, 0, 0, MAP_LOOKUP_ELEM),
    ]);
    // `ip_decrease_ttl` in include/net/ip.h.
    let mut send = vec![
        load16(R1, PACKET, CHECKSUM),
        add(R1, 1),
        skip_if_below(R1, 0xffff, 1),
        add(R1, 1),
        store16(PACKET, CHECKSUM, R1),
        load8(R1, PACKET, TTL),
        add(R1, -1),
        store8(PACKET, TTL, R1),
    ];
    for (to, from) in [0, 6].into_iter().zip(QUESTION_MACS) {
        for at in [0, 2, 4] {
            send.extend([load16(R1, STACK, from + at), store16(PACKET, to + at, R1)]);
        }
    }
    send.extend(map(R1));
    send.extend([
        load32(R2, STACK, QUESTION_IFINDEX),
        set(R3, 0),
        instruction(0x85, 0, 0, 0, REDIRECT_MAP),
        EXIT,
    ]);
    // From the end, where what is not forwarded passes.
    let passes = |behind: usize| behind as i16;
    let behind_known = send.len();
    let behind_question = behind_known + known.len() + 1;
    let behind_checks = behind_question + question.len() + 1;
    let mut code = vec![
        load32(PACKET, R1, 0),
        load32(R2, R1, 4),
        copy(CONTEXT, R1),
        copy(R3, PACKET),
        add(R3, FRAME_SIZE as i32),
        skip_if_greater(R3, R2, passes(behind_checks + 4)),
        load16(R1, PACKET, 12),
        skip_if_not(R1, ETHER_TYPE_IPV4, passes(behind_checks + 2)),
        load8(R1, PACKET, TTL),
        skip_if_below(R1, 2, passes(behind_checks)),
    ];
    code.extend(question);
    code.push(skip_if_not(R0, 0, passes(behind_question)));
    code.extend(known);
    code.push(skip_if(R0, 0, passes(behind_known)));
    code.extend(send);
    code.extend([set(R0, XDP_PASS), EXIT]);
    code
}

/// Returns the program that counts frames of our size, keeps them if it is told to, and drops them.
fn sink(state: &Shared<State>, records: &Shared<Record>, hook: &Hook) -> Vec<u64> {
    let mut code = vec![copy(CONTEXT, R1)];
    // The length: what the kernel itself sends has another one.
    match hook.length {
        Some(length) => code.push(load32(R1, CONTEXT, length)),
        None => code.extend([
            load32(R1, CONTEXT, hook.data_end),
            load32(R2, CONTEXT, hook.data),
            subtract(R1, R2),
        ]),
    }
    code.push(skip_if_not(R1, FRAME_SIZE as i32, 39));
    code.extend(address_of_value(STATE, state.raw_fd()));
    code.extend([
        load64(R1, STATE, ARRIVED),
        store32(STACK, -4, R1),
        add(R1, 1),
        store64(STATE, ARRIVED, R1),
        load64(R1, STATE, RECORDING),
        skip_if(R1, 0, 29),
        load32(PACKET, CONTEXT, hook.data),
        load32(R2, CONTEXT, hook.data_end),
        copy(R3, PACKET),
        add(R3, FRAME_SIZE as i32),
        skip_if_greater(R3, R2, 24),
    ]);
    code.extend(look_up(records.raw_fd(), 18));
    code.extend(copy_frame(R0, PACKET));
    code.extend([
        // The interface, behind the frame.
        load32(R1, CONTEXT, hook.ifindex),
        store64(R0, FRAME_SIZE as i16, R1),
        set(R0, hook.drop),
        EXIT,
        set(R0, hook.pass),
        EXIT,
    ]);
    code
}

/// Returns the instructions that point R0 to the value of a map whose index is on the stack, and
/// that skip `otherwise` instructions if there is none.
fn look_up(map: i32, otherwise: i16) -> [u64; 6] {
    const BPF_PSEUDO_MAP_FD: u8 = 1;
    const MAP_LOOKUP_ELEM: i32 = 1;
    [
        instruction(0x18, R1, BPF_PSEUDO_MAP_FD, 0, map),
        0,
        copy(R2, STACK),
        add(R2, -4),
        instruction(0x85, 0, 0, 0, MAP_LOOKUP_ELEM),
        skip_if(R0, 0, otherwise),
    ]
}

/// Returns the instructions that point a register to the only value of a map.
fn address_of_value(register: u8, map: i32) -> [u64; 2] {
    const BPF_PSEUDO_MAP_VALUE: u8 = 2;
    [instruction(0x18, register, BPF_PSEUDO_MAP_VALUE, 0, map), 0]
}

/// Returns the 16 instructions that copy a frame.
fn copy_frame(to: u8, from: u8) -> impl Iterator<Item = u64> {
    let offsets = (0..FRAME_SIZE as i16).step_by(8);
    offsets.flat_map(move |offset| [load64(R1, from, offset), store64(to, offset, R1)])
}

const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

/// Returns an instruction as `struct bpf_insn` has it: operation, destination and source register,
/// offset, constant.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> u64 {
    let registers = (from << 4 | to) as u64;
    code as u64 | registers << 8 | (offset as u16 as u64) << 16 | (constant as u32 as u64) << 32
}

fn load8(to: u8, from: u8, offset: i16) -> u64 {
    instruction(0x71, to, from, offset, 0)
}

fn load16(to: u8, from: u8, offset: i16) -> u64 {
    instruction(0x69, to, from, offset, 0)
}

fn load32(to: u8, from: u8, offset: i16) -> u64 {
    instruction(0x61, to, from, offset, 0)
}

fn load64(to: u8, from: u8, offset: i16) -> u64 {
    instruction(0x79, to, from, offset, 0)
}

fn store8(to: u8, offset: i16, from: u8) -> u64 {
    instruction(0x73, to, from, offset, 0)
}

fn store16(to: u8, offset: i16, from: u8) -> u64 {
    instruction(0x6b, to, from, offset, 0)
}

fn store32(to: u8, offset: i16, from: u8) -> u64 {
    instruction(0x63, to, from, offset, 0)
}

fn store64(to: u8, offset: i16, from: u8) -> u64 {
    instruction(0x7b, to, from, offset, 0)
}

fn subtract(to: u8, what: u8) -> u64 {
    instruction(0x1f, to, what, 0, 0)
}

fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

fn set(to: u8, value: i32) -> u64 {
    instruction(0xb7, to, 0, 0, value)
}

fn add(to: u8, value: i32) -> u64 {
    instruction(0x07, to, 0, 0, value)
}

/// Swaps the bytes of the lower 16 bits from network byte order, and clears the others.
fn swap16(to: u8) -> u64 {
    instruction(0xdc, to, 0, 0, 16)
}

/// Skips if the register is below a constant, unsigned.
fn skip_if_below(register: u8, value: i32, count: i16) -> u64 {
    instruction(0xa5, register, 0, count, value)
}

fn skip_if(register: u8, value: i32, count: i16) -> u64 {
    instruction(0x15, register, 0, count, value)
}

fn skip_if_not(register: u8, value: i32, count: i16) -> u64 {
    instruction(0x55, register, 0, count, value)
}

fn skip_if_greater(register: u8, than: u8, count: i16) -> u64 {
    instruction(0x2d, register, than, count, 0)
}

fn skip_if_less(register: u8, than: u8, count: i16) -> u64 {
    instruction(0xad, register, than, count, 0)
}

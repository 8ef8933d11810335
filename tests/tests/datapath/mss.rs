//! The MSS of a SYN that leaves by an uplink, in every shape.

use anyhow::{Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions};
use linkbal_common::{
    model::ModelPacket,
    names,
    uplink::{Family, family_slot},
    wan_egress::wan_egress,
};

use crate::{
    fixture::{Fixture, SK_BUFF_SIZE},
    packets::{shapes_of, syns},
};

/// The interface of test runs, which is an uplink here.
const LOOPBACK: u32 = 1;
const UPLINK: u32 = 1;
const MTU: u32 = 1400;

/// Options before that of an MSS of 1460 bytes: none, one that leaves it at an odd offset, several.
const BEFORE: [&[u8]; 3] = [&[], &[1], &[3, 3, 7, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]];
const MSS: [u8; 4] = [2, 4, 5, 180];

/// Returns the packet as the kernel's program leaves it.
fn after(fixture: &mut Fixture, bytes: &[u8]) -> Result<Vec<u8>> {
    let context = [0; SK_BUFF_SIZE];
    let mut out = vec![0; bytes.len()];
    fixture.datapath.program(names::PROGRAM_WAN_EGRESS)?.test_run(TestRunOptions {
        data_in: Some(bytes),
        data_out: Some(&mut out),
        ctx_in: Some(&context),
        ..TestRunOptions::new()
    })?;
    Ok(out)
}

/// Returns the sum of the words of a packet from its TCP header on, which a change leaves as it is.
fn sum(bytes: &[u8]) -> u32 {
    let words =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    words.sum::<u32>() % 0xffff
}

#[test]
fn a_syn_that_leaves_announces_an_mss_that_fits_in_every_shape() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let uplinks = [(LOOPBACK, UPLINK)];
    fixture.datapath.set_uplink_interfaces(&uplinks.into())?;
    fixture.model.uplinks = uplinks.into();
    let limits = Family::ALL.map(|family| ((UPLINK, family), MTU));
    fixture.datapath.set_uplink_mtu(&limits.into())?;
    for family in Family::ALL {
        fixture.model.uplink_mtu[family_slot(UPLINK, family) as usize] = MTU;
    }
    let mut changed = 0;
    for before in BEFORE {
        for shape in shapes_of(&syns(&[before, &MSS].concat())) {
            let had = after(&mut fixture, &shape.bytes)?;
            let changes = wan_egress(&ModelPacket::frame(&shape.bytes), &fixture.model, 0);
            let Some(change) = changes.mss else {
                ensure!(had == shape.bytes, "{} was changed", shape.name);
                continue;
            };
            let at = change.offset as usize;
            let headers = if shape.is_ipv4() { 40 } else { 60 };
            let expected = u16::try_from(MTU - headers)?.to_be_bytes();
            ensure!(had[at..at + 2] == expected, "{}: {:?}", shape.name, &had[at..at + 2]);
            let header = change.checksum as usize - 16;
            let (old, new) = (sum(&shape.bytes[header..]), sum(&had[header..]));
            ensure!(old == new, "{}: the checksum was {old:#x}, and is {new:#x}", shape.name);
            changed += 1;
        }
    }
    // Errors quote a SYN, and are none.
    ensure!(changed >= 40, "only {changed} packets have an MSS");
    Ok(())
}

//! `[kernel]`: numbers that must not clash with those of other programs.

use linkbal_common::mark::MarkMask;
use toml::{Spanned, de::DeValue};

use crate::config::{
    Kernel,
    diagnostics::problem::Fault,
    kernel_numbers::TABLES,
    keys,
    parse::{reader::Section, value},
};

const MASK_HELP: &str = "a mask of at least 7 bits: five for the uplink, and two flags";

/// Reads `[kernel]`.
pub(in crate::config) fn read(root: &Section) -> Kernel {
    let Some(section) = root.section(&keys::root::KERNEL, "write it as the section [kernel]")
    else {
        return Kernel::default();
    };
    let section = section.knowing(&keys::kernel::KEYS);
    let default = Kernel::default();
    Kernel {
        fwmark_mask: section
            .get(&keys::kernel::FWMARK_MASK, fwmark_mask)
            .map_or(default.fwmark_mask, Spanned::into_inner),
        table_base: section
            .get(&keys::kernel::TABLE_BASE, table_base)
            .map_or(default.table_base, Spanned::into_inner),
        rule_priority: section
            .value(&keys::kernel::RULE_PRIORITY)
            .map_or(default.rule_priority, Spanned::into_inner),
        flow_table_size: section
            .get(&keys::kernel::FLOW_TABLE_SIZE, flow_table_size)
            .and_then(Spanned::into_inner),
        hash_seed_file: section
            .get(&keys::kernel::HASH_SEED_FILE, value::path("/etc/linkbal/hash_seed"))
            .map(Spanned::into_inner),
    }
}

fn flow_table_size(value: &DeValue<'_>) -> Result<Option<u32>, Fault> {
    match value.as_str() {
        Some("auto") => Ok(None),
        Some(other) => {
            let message = format!("{other:?} is no number");
            Err(Fault::new(message, "write \"auto\", or a number like 262_144"))
        }
        None => value::integer(1024..=1 << 24)(value).map(Some),
    }
}

fn fwmark_mask(value: &DeValue<'_>) -> Result<u32, Fault> {
    let number = value::integer(1..=u32::MAX)(value).map_err(|fault| match value.as_str() {
        Some(_) => Fault::new(fault.message, format!("{}; it is {MASK_HELP}", fault.help)),
        None => fault,
    });
    let mask = MarkMask(number?);
    if !mask.is_contiguous() {
        let message = format!("the bits of {:#x} are not one run", mask.0);
        return Err(Fault::new(message, "write a mask without gaps, like 0x7f000000"));
    }
    if !mask.fits() {
        let message = format!("the {} bits of {:#x} are too few", mask.0.count_ones(), mask.0);
        return Err(Fault::new(message, format!("write {MASK_HELP}")));
    }
    Ok(mask.0)
}

/// Parses the number of the first routing table.
fn table_base(value: &DeValue<'_>) -> Result<u32, Fault> {
    let tables = TABLES.saturating_sub(1);
    let base = value::integer(1..=u32::MAX.saturating_sub(tables))(value)?;
    let last = base.saturating_add(tables);
    if base <= 255 && last >= 253 {
        let message = format!("tables {base} to {last} include the kernel's own, 253 to 255");
        return Err(Fault::new(message, "write a number from 1 to 205, or from 256"));
    }
    Ok(base)
}

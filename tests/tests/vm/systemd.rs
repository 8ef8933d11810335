//! `linkbal.service` as systemd itself understands it.

use crate::fixture::text;
use crate::machine::Machine;

/// Starts it, and looks at once at what must be there by then.
#[test]
fn the_service_starts_and_has_little_power() {
    let machine = Machine::start();
    machine.systemctl_well(&["start", "linkbal"]);
    println!("{}", text(&machine.systemctl(&["status", "linkbal"]).stdout));
    println!("{}", machine.log());
    println!("{}", machine.run("cat", &["/proc/self/mountinfo"]));
    machine.wait_until_up();
    machine.assert_spread();
    println!("{}", machine.log());
}

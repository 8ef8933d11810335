//! Lines that are long or bad, which is no reason to give them up.
#[test]
fn x() {
    let _ = crate::fixture::Gateway::pair();
}

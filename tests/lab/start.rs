use crate::hosts::{Image, Lab};

#[test]
fn the_image_that_ships_runs_handover_and_passes_its_exit_code_on() {
    let lab = Lab::new();
    let version = lab.run_shipped(&["--version"]);
    assert_eq!(
        (version.code, version.text()),
        (0, format!("handover {}\n", env!("CARGO_PKG_VERSION"))),
        "{version:?}"
    );
    let unset = lab.run_shipped(&["sink", "run"]);
    assert_eq!(unset.code, 10, "{unset:?}");
    assert!(unset.stderr.contains("/etc/handover/handover.toml"), "{unset:?}");
}

#[test]
fn a_host_of_the_lab_can_be_used_cut_off_and_started_again() {
    let lab = Lab::new();
    let one = lab.host("one", Image::Host);
    let two = lab.host("two", Image::Host);
    assert_eq!(one.run("exit 7").code, 7);
    assert_eq!(one.must_as("nobody", "id -un; pwd").text(), "nobody\n/\n");
    one.put("/srv/x", b"\0\xff", 0o640);
    assert_eq!(one.get("/srv/x"), b"\0\xff");
    let reach = "ssh-keyscan -T 2 two.example.org two 2>/dev/null | grep -q ed25519";
    one.must(reach);
    two.disconnect();
    assert_ne!(one.run(reach).code, 0);
    two.connect();
    one.must(reach);
    assert!(one.packets() > 0);
    two.pause();
    assert_ne!(one.run(reach).code, 0);
    two.unpause();
    two.must("echo kept > /home/kept");
    two.restart();
    assert_eq!(two.get("/home/kept"), b"kept\n");
    one.must(reach);
}

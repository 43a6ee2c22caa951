# A source and a sink as virtual machines: pull, a spoiled file, restore, a machine that crashes.
# Evaluated, never booted: where it is first run, expect to mend it. docs/nix.md says so too.
{
  testers,
  runCommand,
  openssh,
  module,
}:
let
  keys = runCommand "handover-test-keys" { nativeBuildInputs = [ openssh ]; } ''
    mkdir $out
    ssh-keygen -q -t ed25519 -N "" -C handover-sink -f $out/sink
    ssh-keygen -q -t ed25519 -N "" -C host -f $out/host
  '';
in
testers.runNixOSTest {
  name = "handover-pair";

  nodes.shop = {
    imports = [ module ];
    services.handover = {
      source.enable = true;
      source.sinkKeys = [ (builtins.readFile "${keys}/sink.pub") ];
      settings.source = {
        name = "shop";
        reserve = 0;
        element = [
          {
            name = "www";
            kind = "tree";
            paths = [ "/srv/www" ];
          }
        ];
      };
    };
    # For a test only: a host key that is in the store is everybody's.
    environment.etc."ssh/test_host_key" = {
      source = "${keys}/host";
      mode = "0600";
    };
    services.openssh.hostKeys = [
      {
        type = "ed25519";
        path = "/etc/ssh/test_host_key";
      }
    ];
  };

  nodes.vault = {
    imports = [ module ];
    services.handover = {
      sink.enable = true;
      sink.identityFile = "/run/test/identity";
      settings.sink = {
        reserve = 0;
        known_hosts = "/etc/handover/known_hosts";
        source = [
          {
            name = "shop";
            host = "shop";
          }
        ];
      };
    };
    environment.etc."handover/known_hosts".text = "shop ${builtins.readFile "${keys}/host.pub"}";
    systemd.tmpfiles.rules = [
      "d /run/test 0700 root root -"
      "C /run/test/identity 0600 root root - ${keys}/sink"
    ];
  };

  testScript = ''
    import json

    start_all()
    shop.wait_for_unit("multi-user.target")
    vault.wait_for_unit("multi-user.target")

    def stored():
        listed = json.loads(vault.succeed("handover --json sink list shop"))
        return [one["id"] for one in listed if one["state"] != "condemned"]

    with subtest("a generation is pulled"):
        shop.succeed("mkdir -p /srv/www && echo one > /srv/www/index.html && chmod 640 /srv/www/index.html")
        shop.succeed("systemctl start handover-source.service")
        vault.succeed("systemctl start handover-sink.service")
        assert len(stored()) == 1, stored()

    with subtest("a spoiled file is found"):
        vault.succeed("f=$(find /home/dataBackupSink/store -name index.html) && chmod u+w $f && echo two > $f")
        vault.fail("handover sink verify shop")

    with subtest("a machine that crashes goes on where it was"):
        shop.succeed("echo three > /srv/www/index.html && systemctl start handover-source.service")
        shop.crash()
        shop.start()
        shop.wait_for_unit("multi-user.target")
        vault.succeed("systemctl start handover-sink.service")
        assert len(stored()) == 2, stored()

    with subtest("it comes back as it was"):
        vault.succeed("handover restore newest --from /home/dataBackupSink/store/shop --to /root/out")
        vault.succeed("grep three /root/out/srv/www/index.html")
        vault.succeed("test $(stat -c %a /root/out/srv/www/index.html) = 640")
  '';
}

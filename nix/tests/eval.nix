# The module over the stubs, with sample configurations: { lib = path of nixpkgs' lib; } -> what the script beside compares.
{ lib }:
let
  l = import lib;
  fake = name: {
    type = "derivation";
    inherit name;
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
    meta.mainProgram = name;
  };
  pkgs = {
    bashInteractive = fake "bash";
    formats.toml = _: {
      type = l.types.attrsOf l.types.anything;
      generate = name: value: "/written/${name}/${builtins.toJSON value}";
    };
    runCommand =
      name: _: _:
      fake name;
  };
  evaluate =
    settings:
    (l.evalModules {
      modules = [
        ./stubs.nix
        (import ../module.nix { package = _: fake "handover"; })
        {
          _module.args = { inherit pkgs; };
          services.handover = settings;
        }
      ];
    }).config;
  shown = config: {
    inherit (config.systemd) services timers;
    users = l.mapAttrs (_: user: {
      inherit (user) home group;
      keys = user.openssh.authorizedKeys.keys;
    }) config.users.users;
    refused = map (a: a.message) (builtins.filter (a: !a.assertion) config.assertions);
    sshd = config.services.openssh.enable;
  };
  key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8x sink@vault";
  fails = settings: !(builtins.tryEval (builtins.deepSeq (shown (evaluate settings)) true)).success;
in
{
  source = shown (evaluate {
    source = {
      enable = true;
      schedule = "*-*-* 01:00:00";
      sinkKeys = [ key ];
    };
    settings.source = {
      name = "shop";
      element = [
        {
          name = "etc";
          kind = "tree";
          paths = [ "/etc" ];
        }
      ];
    };
  });
  sinks = shown (evaluate {
    sink.enable = true;
    sink.identityFile = "/run/secrets/sink";
    logsink.enable = true;
    mail.passwordFile = "/run/secrets/smtp";
    settings.sink.keep = 14;
  });
  nothing = shown (evaluate { });
  secretInStore = shown (evaluate {
    sink.enable = true;
    sink.identityFile = "${builtins.storeDir}/00000000000000000000000000000000-key";
  });
  passwordInSettings = shown (evaluate {
    sink.enable = true;
    settings.mail.password_file = "/etc/password";
  });
  wrongType = fails {
    source.enable = true;
    source.schedule = 3;
  };
  unknownOption = fails { sink.enabled = true; };
}

# The NixOS options that the module sets, with their types, so that it can be evaluated without NixOS.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  of =
    type: default:
    mkOption {
      inherit type default;
    };
  line = types.oneOf [
    types.bool
    types.int
    types.str
    types.path
  ];
  section = types.attrsOf (types.either line (types.listOf line));
  unit = types.submodule {
    options = {
      description = of types.str "";
      overrideStrategy = of (types.enum [
        "asDropinIfExists"
        "asDropin"
      ]) "asDropinIfExists";
      wantedBy = of (types.listOf types.str) [ ];
      before = of (types.listOf types.str) [ ];
      environment = of (types.attrsOf types.str) { };
      restartIfChanged = of types.bool true;
      serviceConfig = of section { };
      timerConfig = of section { };
    };
  };
in
{
  options = {
    assertions = of (types.listOf (
      types.submodule {
        options = {
          assertion = mkOption { type = types.bool; };
          message = mkOption { type = types.str; };
        };
      }
    )) [ ];
    environment.systemPackages = of (types.listOf types.package) [ ];
    environment.etc = of (types.attrsOf (
      types.submodule { options.source = mkOption { type = types.path; }; }
    )) { };
    services.openssh.enable = of types.bool false;
    systemd.packages = of (types.listOf types.package) [ ];
    systemd.services = of (types.attrsOf unit) { };
    systemd.timers = of (types.attrsOf unit) { };
    systemd.tmpfiles.rules = of (types.listOf types.str) [ ];
    users.groups = of (types.attrsOf (types.submodule { })) { };
    users.users = of (types.attrsOf (
      types.submodule {
        options = {
          isSystemUser = of types.bool false;
          group = of types.str "";
          home = of types.path "/var/empty";
          shell = of types.package null;
          openssh.authorizedKeys.keys = of (types.listOf types.singleLineStr) [ ];
        };
      }
    )) { };
  };
}

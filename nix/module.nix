# services.handover: the roles of this host, their configuration, users, keys, units and timers.
#
# The units are those of packaging/systemd, as every other package ships them; what is set here comes on top of them.
{ package }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    mkEnableOption
    mkIf
    mkMerge
    mkOption
    types
    ;
  cfg = config.services.handover;
  toml = pkgs.formats.toml { };

  # Where the program is after every upgrade and every garbage collection: what a key is bound to must not be a store path.
  program = "/run/current-system/sw/bin/handover";

  schedule =
    default:
    mkOption {
      type = types.str;
      inherit default;
      example = "*-*-* 02:30:00";
      description = "When it runs, as systemd's `OnCalendar=` takes it. A run that was missed is made up for.";
    };

  keys =
    channel:
    mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAA… handover-sink@vault" ];
      description = ''
        Public keys of sinks that may fetch the ${channel} of this host. Each is bound to the gate: it can ask what
        waits, fetch it and acknowledge it, and nothing else.
      '';
    };

  secret =
    what:
    mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/secrets/handover";
      description = ''
        A file with ${what}, outside the Nix store, where everybody could read it. It is passed to the units by
        `LoadCredential=`.
      '';
    };

  sinkOptions = name: what: {
    enable = mkEnableOption "the ${name}: fetches the ${what} of other hosts";
    schedule = schedule (if name == "sink" then "*-*-* 04:00:00" else "*-*-* 04:30:00");
    identityFile = secret "the private key with which it logs in at sources";
  };

  roles = lib.filterAttrs (_: role: role.enable) { inherit (cfg) source sink logsink; };
  credential = unit: name: "/run/credentials/${unit}.service/${name}";

  # The configuration as one unit reads it: the secrets are where systemd puts them for that unit.
  settingsOf =
    unit: role:
    lib.foldl' lib.recursiveUpdate cfg.settings [
      (lib.optionalAttrs (cfg.mail.passwordFile != null) {
        mail.password_file = credential unit "smtp-password";
      })
      (lib.optionalAttrs ((roles.${role}.identityFile or null) != null) {
        ${role}.identity = credential unit "identity";
      })
    ];

  # Mistakes end the build, each with its line, its key and the fix.
  checked =
    name: settings:
    let
      file = toml.generate "handover-${name}-unchecked.toml" settings;
    in
    pkgs.runCommand "handover-${name}.toml" { } ''
      ${lib.getExe cfg.package} --config ${file} check
      cp ${file} $out
    '';

  unit =
    role: name:
    let
      identity = roles.${role}.identityFile or null;
    in
    lib.nameValuePair name {
      overrideStrategy = "asDropin";
      environment.HANDOVER_CONFIG = "${checked name (settingsOf name role)}";
      restartIfChanged = false;
      serviceConfig.LoadCredential =
        lib.optional (cfg.mail.passwordFile != null) "smtp-password:${cfg.mail.passwordFile}"
        ++ lib.optional (identity != null) "identity:${identity}";
    };

  unitsOf = role: [
    "handover-${role}"
    "handover-${role}-watch"
  ];

  timerOf = role: {
    "handover-${role}" = {
      overrideStrategy = "asDropin";
      wantedBy = [ "timers.target" ];
      # The empty one takes the shipped time away.
      timerConfig.OnCalendar = [
        ""
        roles.${role}.schedule
      ];
    };
    "handover-${role}-watch" = {
      overrideStrategy = "asDropin";
      wantedBy = [ "timers.target" ];
    };
  };

  # Made before the first run, and again after each change: users, folders, owners, the store's marker.
  initOf = role: {
    "handover-${role}-init" = {
      description = "Make what is missing for handover ${role}";
      wantedBy = [ "multi-user.target" ];
      before = [ "handover-${role}.service" ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${lib.getExe cfg.package} --config ${checked "${role}-init" cfg.settings} ${role} init";
        UMask = "0077";
      };
    };
  };

  user = name: home: {
    users.${name} = {
      isSystemUser = true;
      group = name;
      inherit home;
      # sshd starts the gate through it.
      shell = pkgs.bashInteractive;
    };
    groups.${name} = { };
  };

  bound = channel: key: "restrict,command=\"${program} source gate --channel ${channel}\" ${key}";

  secrets = {
    "services.handover.mail.passwordFile" = cfg.mail.passwordFile;
    "services.handover.sink.identityFile" = cfg.sink.identityFile;
    "services.handover.logsink.identityFile" = cfg.logsink.identityFile;
  };
in
{
  options.services.handover = {
    package = mkOption {
      type = types.package;
      default = package pkgs;
      defaultText = lib.literalMD "the flake's package";
      description = "The handover that is used.";
    };

    settings = mkOption {
      inherit (toml) type;
      default = { };
      example = lib.literalExpression ''
        {
          source.name = "shop";
          source.element = [ { name = "www"; kind = "tree"; paths = [ "/var/www" ]; } ];
        }
      '';
      description = ''
        What would be written to `/etc/handover/handover.toml`, see docs/configuration.md. It is checked when the
        system is built.
      '';
    };

    mail.passwordFile = secret "the password of the mail server";

    source = {
      enable = mkEnableOption "the source: collects this host's data and logs and hands them over";
      schedule = schedule "*-*-* 03:00:00";
      sinkKeys = keys "data";
      logsinkKeys = keys "logs";
    };

    sink = sinkOptions "sink" "data";
    logsink = sinkOptions "logsink" "logs";

    restore.procedure = mkOption {
      type = types.nullOr (types.listOf types.str);
      default = null;
      example = [
        "/run/current-system/sw/bin/restore-shop"
        "{generation}"
      ];
      description = "The application's own way to restore, instead of the elements' steps; `{generation}` is its folder.";
    };
  };

  config = mkIf (roles != { }) (mkMerge [
    {
      assertions =
        lib.mapAttrsToList (option: file: {
          assertion = file == null || !lib.hasPrefix builtins.storeDir (toString file);
          message = "${option} is in the Nix store, where everybody can read it: name a file outside, as a text and not as a path";
        }) secrets
        ++ [
          {
            assertion = !(cfg.settings ? mail.password_file);
            message = "services.handover.settings.mail.password_file: set services.handover.mail.passwordFile instead, so that the units get it as a credential";
          }
        ];

      environment.systemPackages = [ cfg.package ];
      # For whoever types a command; the units have the same with their credentials.
      environment.etc."handover/handover.toml".source = checked "host" cfg.settings;
      systemd.packages = [ cfg.package ];
      systemd.tmpfiles.rules = [ "d /var/lib/handover 0755 root root -" ];
      systemd.services = mkMerge [
        (lib.listToAttrs (lib.concatMap (role: map (unit role) (unitsOf role)) (lib.attrNames roles)))
        (mkMerge (map initOf (lib.attrNames roles)))
      ];
      systemd.timers = mkMerge (map timerOf (lib.attrNames roles));
    }
    (mkIf (cfg.restore.procedure != null) {
      services.handover.settings.restore.procedure = cfg.restore.procedure;
    })
    (mkIf cfg.source.enable {
      services.openssh.enable = true;
      users = mkMerge [
        (user "dataBackupSource" "/home/dataBackupSource")
        (user "logBackupSource" "/home/logBackupSource")
        {
          users.dataBackupSource.openssh.authorizedKeys.keys = map (bound "data") cfg.source.sinkKeys;
          users.logBackupSource.openssh.authorizedKeys.keys = map (bound "logs") cfg.source.logsinkKeys;
        }
      ];
    })
    (mkIf cfg.sink.enable { users = user "dataBackupSink" "/home/dataBackupSink"; })
    (mkIf cfg.logsink.enable { users = user "logBackupSink" "/home/logBackupSink"; })
  ]);
}

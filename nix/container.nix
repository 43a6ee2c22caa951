# The same image as docker/Dockerfile makes, from Nix packages: docker load < result
{
  dockerTools,
  handover,
  openssh,
  rsync,
  tini,
  tzdata,
  lib,
}:
dockerTools.buildLayeredImage {
  name = "handover";
  tag = handover.version;
  contents = [
    dockerTools.caCertificates
    dockerTools.fakeNss
    handover
    openssh
    rsync
    tzdata
  ];
  config = {
    Entrypoint = [
      (lib.getExe tini)
      "--"
      (lib.getExe handover)
    ];
    Labels = {
      "org.opencontainers.image.title" = "handover";
      "org.opencontainers.image.description" = handover.meta.description;
      "org.opencontainers.image.licenses" = "MIT OR Apache-2.0";
    };
  };
}

{
  description = "A pull-based backup appliance: sources hand their data over, a sink fetches, proves and keeps it, and brings it back";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAll = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      overlays.default = final: _: { handover = final.callPackage ./nix/package.nix { }; };

      packages = forAll (pkgs: rec {
        handover = pkgs.callPackage ./nix/package.nix { };
        container = pkgs.callPackage ./nix/container.nix { inherit handover; };
        default = handover;
      });

      apps = forAll (pkgs: rec {
        handover = {
          type = "app";
          program = lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.handover;
          meta.description = "Back up from source to sink, and bring it back";
        };
        default = handover;
      });

      nixosModules = rec {
        handover = import ./nix/module.nix { package = pkgs: pkgs.callPackage ./nix/package.nix { }; };
        default = handover;
      };

      # A source and a sink as virtual machines; it has been evaluated but never booted, see docs/nix.md.
      checks = forAll (pkgs: {
        package = self.packages.${pkgs.stdenv.hostPlatform.system}.handover;
        pair = pkgs.callPackage ./nix/vm-test.nix { module = self.nixosModules.default; };
      });

      devShells = forAll (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix { };
      });

      formatter = forAll (pkgs: pkgs.nixfmt-rfc-style);
    };
}

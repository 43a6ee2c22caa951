//! What is replaced, how, and what stays.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use handover::sys::Dir;

use super::{ELEMENTS, Host, hidden, number, run};
use crate::{
    format::{
        look::{compare, look},
        source::make_source_within,
    },
    harness::{Lab, inode, names},
};

#[test]
fn the_newest_generation_takes_the_place_of_what_is_there_and_the_old_is_kept_until_it_is_cleaned_away() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let report = host.restore(&["--yes"]).exits(0).json();
    assert_eq!((number(&report, "exchanged"), number(&report, "in_place")), (2, 0), "{report:#}");
    assert_eq!(
        [host.read("shop/index.html"), host.read("shop/deep/er/page"), host.read("shop.conf")],
        ["old"; 3]
    );
    assert!(!host.app("shop/only-new").exists());
    assert_eq!(report["generation"]["id"], id.as_str());
    assert_eq!(names(&host.lab.path("home/restored")), [id.as_str()]);
    assert!(names(&host.lab.path("home/restore")).is_empty());
    assert!(host.lab.text("home/gate/history").contains("\"restored\""));
    let kept = host.left_over();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let kept_mode = fs::metadata(host.lab.path("app").join(&kept[0])).unwrap().mode() & 0o777;
    assert_eq!(kept_mode, 0o700);
    // The next backup holds nothing of what is kept, and the next restore finds nothing.
    host.config(
        &ELEMENTS.replace("{lab}/app/shop.conf", "{lab}/app").replace("{lab}/app/shop\"", "{lab}/other\""),
        "",
    );
    fs::create_dir(host.lab.path("other")).unwrap();
    fs::write(host.lab.path("other/file"), "x").unwrap();
    let next = host.collect();
    let manifest = fs::read_to_string(host.waiting(&next).join("manifest.mtree")).unwrap();
    assert!(manifest.contains("shop.conf") && !manifest.contains("handover-replaced"), "{manifest}");
    host.config(ELEMENTS, "");
    host.restore(&["--yes"]).exits(15);
    // Listed, cleaned, gone.
    let listed = host.lab.run(&["restore", "list", "--replaced", "--json"]).exits(0).json();
    assert_eq!(listed["replaced"].as_array().unwrap().len(), 2);
    host.lab.run(&["restore", "clean", "--dry-run"]).exits(0).says(&["shop.conf"]);
    assert_eq!(host.left_over().len(), 2);
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    assert!(host.left_over().is_empty());
    assert_eq!(host.read("shop/index.html"), "old");
}

#[test]
fn what_a_restore_replaced_can_be_put_back_and_that_as_well() {
    let host = Host::new();
    host.old_in_place_of_new();
    host.restore(&["--yes"]).exits(0);
    host.lab.run(&["restore", "undo"]).exits(15);
    host.lab.run(&["restore", "undo", "--yes"]).exits(0);
    assert_eq!(
        [host.read("shop/index.html"), host.read("shop.conf"), host.read("shop/only-new")],
        ["new"; 3]
    );
    assert_eq!(host.read("shop/cache/hot"), "of now");
    host.lab.run(&["restore", "undo", "--yes"]).exits(0);
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["old"; 2]);
}

#[test]
fn what_is_excluded_is_carried_over_as_the_same_files() {
    let host = Host::new();
    host.old_in_place_of_new();
    host.write("shop/cache/hot", "hotter");
    host.write("shop/cache/deep/x", "x");
    let before = inode(&host.app("shop/cache/hot"));
    host.restore(&["--yes"]).exits(0);
    assert_eq!(host.read("shop/index.html"), "old");
    assert_eq!([host.read("shop/cache/hot"), host.read("shop/cache/deep/x")], ["hotter", "x"]);
    assert_eq!(inode(&host.app("shop/cache/hot")), before, "whoever has it open writes into the old one");
}

#[test]
fn services_are_stopped_before_the_exchange_and_started_after_it() {
    let host = Host::new();
    host.old_in_place_of_new();
    // What the service finds when it is asked to stop and to start.
    host.lab.fake(
        "service",
        "echo \"$2 $(cat {lab}/app/shop/index.html)\" >>{lab}/services.log\n[ \"$2\" = status ] || exit 0",
    );
    fs::write(host.lab.path("services.log"), "").unwrap();
    host.restore(&["--yes"]).exits(0);
    assert_eq!(host.lab.text("services.log"), "status new\nstop new\nstart old\n");
}

#[test]
fn a_tree_of_everything_comes_back_in_its_place_with_every_attribute() {
    let host = Host::new();
    let prefix = "www".len() + host.app("shop").as_os_str().len() + 1;
    fs::create_dir(host.app("shop")).unwrap();
    host.write("shop.conf", "x");
    make_source_within(&Dir::open(host.app("shop")).unwrap(), prefix);
    fs::set_permissions(host.app("shop"), fs::Permissions::from_mode(0o2751)).unwrap();
    let seen = || look(&Dir::open(host.app("shop")).unwrap());
    let before = seen();
    let id = host.init().collect();
    host.deliver(&id);
    run("sh", &["-c", &format!("cd {} && rm -rf * && touch other", host.app("shop").display())]);
    fs::set_permissions(host.app("shop"), fs::Permissions::from_mode(0o700)).unwrap();
    host.restore(&["--yes", "--element", "www"]).exits(0);
    compare(&before, &seen(), |_| true);
    assert_eq!(fs::metadata(host.app("shop")).unwrap().mode() & 0o7777, 0o2751);
}

#[test]
fn what_is_not_there_is_made_with_the_folders_on_its_way() {
    let host = Host::new();
    host.fill("old");
    fs::set_permissions(host.lab.path("app"), fs::Permissions::from_mode(0o711)).unwrap();
    let id = host.init().collect();
    host.deliver(&id);
    fs::remove_dir_all(host.lab.path("app")).unwrap();
    let report = host.restore(&["--yes"]).exits(0).json();
    assert_eq!(number(&report, "created"), 1, "{report:#}");
    assert_eq!([host.read("shop/deep/er/page"), host.read("shop.conf")], ["old"; 2]);
    assert_eq!(fs::metadata(host.lab.path("app")).unwrap().mode() & 0o777, 0o711);
    assert!(host.left_over().is_empty());
}

#[test]
fn only_the_elements_or_paths_that_are_asked_for_change() {
    let host = Host::new();
    host.old_in_place_of_new();
    host.restore(&["--yes", "--element", "conf"]).exits(0);
    assert_eq!([host.read("shop.conf"), host.read("shop/index.html")], ["old", "new"]);
    let host = Host::new();
    host.old_in_place_of_new();
    let deep = host.app("shop/deep");
    let report = host.restore(&["--yes", "--path", deep.to_str().unwrap()]).exits(0).json();
    assert_eq!(number(&report, "exchanged"), 1);
    assert_eq!(
        [host.read("shop/deep/er/page"), host.read("shop/index.html"), host.read("shop.conf")],
        ["old", "new", "new"]
    );
    // Kept below a path of the element, and yet in no backup.
    assert_eq!(hidden(&host.app("shop")).len(), 1);
    let next = host.collect();
    let manifest = fs::read_to_string(host.waiting(&next).join("manifest.mtree")).unwrap();
    assert!(!manifest.contains("handover-replaced"), "{manifest}");
}

#[test]
fn an_archive_comes_back_in_its_place_as_a_tree_does() {
    let host = Host::with(
        Lab::new(),
        &ELEMENTS.replace(
            "kind = \"tree\"\npaths = [\"{lab}/app/shop\"]",
            "kind = \"archive\"\npaths = [\"{lab}/app/shop\"]",
        ),
        "",
    );
    host.fill("old");
    fs::hard_link(host.app("shop/index.html"), host.app("shop/deep/same")).unwrap();
    let id = host.init().collect();
    assert!(host.waiting(&id).join("data/www/www.tar.zst").is_file());
    host.deliver(&id);
    host.deliver_as(&id, "again");
    host.fill("new");
    fs::remove_file(host.app("shop/deep/same")).unwrap();
    // Only a part of it: the other name of the file is not there, its content is.
    let deep = host.app("shop/deep");
    host.restore(&["--yes", "--path", deep.to_str().unwrap()]).exits(0);
    assert_eq!(
        [host.read("shop/deep/er/page"), host.read("shop/deep/same"), host.read("shop/index.html")],
        ["old", "old", "new"]
    );
    let report = host.restore(&["--yes"]).exits(0).json();
    assert_eq!(number(&report, "exchanged"), 2, "{report:#}");
    assert_eq!(
        [host.read("shop/index.html"), host.read("shop/deep/same"), host.read("shop/cache/hot")],
        ["old", "old", "of now"]
    );
    assert_eq!(inode(&host.app("shop/index.html")), inode(&host.app("shop/deep/same")));
}

#[test]
fn a_plan_says_what_is_lost_and_who_has_files_open_and_changes_nothing() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let open = fs::File::open(host.app("shop/index.html")).unwrap();
    let plan = host.lab.run(&["restore", "plan", "--json"]).exits(0).json();
    let path = &plan["plan"][1]["paths"][0];
    assert_eq!(path["how"], "exchange", "{plan:#}");
    assert_eq!(path["newer"], 3, "{plan:#}");
    assert!(path["newer_examples"].to_string().contains("only-new"));
    assert!(path["open"].to_string().contains(&format!("\"process\":{}", std::process::id())), "{plan:#}");
    assert_eq!(plan["candidates"][0]["trust"], "ledger");
    drop(open);
    let text = host.lab.run(&["restore", "--dry-run"]).exits(0);
    for word in
        [id.as_str(), "LOST: the changes of 3 files", "tomcat", "exchanged by one rename", "made here"]
    {
        assert!(text.out.contains(word), "{word} in {}", text.out);
    }
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["new"; 2]);
    assert!(host.left_over().is_empty());
    assert_eq!(names(&host.lab.path("home/restore")), [id.as_str()]);
}

/// A file system that is mounted for a test.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    fn ext4(lab: &Lab, at: &Path) -> Self {
        let image = lab.path("image");
        run("truncate", &["-s", "64M", image.to_str().unwrap()]);
        run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        fs::create_dir_all(at).unwrap();
        run("mount", &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at.to_path_buf())
    }

    pub(super) fn tmpfs(at: &Path, options: &str) -> Self {
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", at.to_str().unwrap()]);
        Self(at.to_path_buf())
    }

    /// `lower` shines through.
    fn overlay(lab: &Lab, lower: &Path, at: &Path) -> Self {
        let (upper, work) = (lab.path("upper"), lab.path("work"));
        for dir in [&upper, &work] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::create_dir_all(at).unwrap();
        let layers = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=off",
            lower.display(),
            upper.display(),
            work.display()
        );
        run("mount", &["-t", "overlay", "overlay", "-o", &layers, at.to_str().unwrap()]);
        Self(at.to_path_buf())
    }

    pub(super) fn bind(from: &Path, at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        run("mount", &["--bind", from.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at.to_path_buf())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &["--lazy", self.0.to_str().unwrap()]);
    }
}

#[test]
fn on_a_disk_of_its_own_all_paths_are_exchanged() {
    let host = Host::new();
    let _disk = Mounted::ext4(&host.lab, &host.lab.path("app"));
    host.old_in_place_of_new();
    let report = host.restore(&["--yes"]).exits(0).json();
    assert_eq!((number(&report, "exchanged"), number(&report, "in_place")), (2, 0), "{report:#}");
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["old"; 2]);
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    assert!(host.left_over().is_empty());
}

#[test]
fn on_an_overlay_whose_folders_cannot_be_renamed_the_path_is_changed_in_place_after_a_copy() {
    let host = Host::new();
    host.fill("old");
    let id = host.init().collect();
    host.deliver(&id);
    // The application lies in the lower layer.
    host.fill("new");
    host.write("shop/only-new", "new");
    let lower = host.lab.path("lower");
    fs::rename(host.lab.path("app"), &lower).unwrap();
    let _overlay = Mounted::overlay(&host.lab, &lower, &host.lab.path("app"));
    let report = host.restore(&["--yes"]).exits(0).json();
    // The single file can be exchanged, the folder cannot.
    assert_eq!((number(&report, "exchanged"), number(&report, "in_place")), (1, 1), "{report:#}");
    assert_eq!(
        [host.read("shop/index.html"), host.read("shop.conf"), host.read("shop/deep/er/page")],
        ["old"; 3]
    );
    assert!(!host.app("shop/only-new").exists());
    assert_eq!(host.read("shop/cache/hot"), "of now");
    host.lab.run(&["restore", "undo", "--yes"]).exits(0);
    assert_eq!(
        [host.read("shop/index.html"), host.read("shop.conf"), host.read("shop/only-new")],
        ["new"; 3]
    );
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    assert!(host.left_over().is_empty());
}

#[test]
fn a_mount_at_below_or_from_the_path_is_left_where_it_is() {
    // At.
    let host = Host::new();
    let _disk = Mounted::ext4(&host.lab, &host.app("shop"));
    host.old_in_place_of_new();
    let report = host.restore(&["--yes"]).exits(0).json();
    assert_eq!((number(&report, "exchanged"), number(&report, "in_place")), (1, 1), "{report:#}");
    assert_eq!(host.read("shop/index.html"), "old");
    assert!(!host.app("shop/only-new").exists() && host.app("shop/lost+found").exists());
    assert_eq!(hidden(&host.app("shop")).len(), 1, "the old is kept on the same disk");
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    // Below: it is another file system, so no generation holds it, and nothing in it changes.
    let host = Host::new();
    host.old_in_place_of_new();
    let _media = Mounted::ext4(&host.lab, &host.app("shop/media"));
    host.write("shop/media/film", "large");
    let report = host.restore(&["--yes"]).exits(0).json();
    assert_eq!(number(&report, "in_place"), 1, "{report:#}");
    assert_eq!([host.read("shop/index.html"), host.read("shop/media/film")], ["old", "large"]);
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    assert_eq!(host.read("shop/media/film"), "large");
    // From: what is seen elsewhere is the new as well.
    let host = Host::new();
    host.old_in_place_of_new();
    let elsewhere = host.lab.path("elsewhere");
    let _bind = Mounted::bind(&host.app("shop"), &elsewhere);
    let report = host.restore(&["--yes"]).exits(0).json();
    assert_eq!(number(&report, "in_place"), 1, "{report:#}");
    assert_eq!(fs::read_to_string(elsewhere.join("index.html")).unwrap(), "old");
}

#[test]
fn a_folder_that_something_is_mounted_in_is_never_cleaned_through() {
    let host = Host::new();
    host.old_in_place_of_new();
    host.restore(&["--yes"]).exits(0);
    let kept = host.left_over();
    let kept = kept.iter().map(|name| host.app(name)).find(|k| k.join("old/shop").is_dir()).unwrap();
    let other = host.lab.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("file"), "not ours").unwrap();
    {
        let disk = Mounted::ext4(&host.lab, &kept.join("old/shop/deep"));
        fs::write(disk.0.join("precious"), "x").unwrap();
        host.lab.run(&["restore", "clean", "--yes"]).exits_with_failure();
        assert!(disk.0.join("precious").exists());
    }
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    assert!(host.left_over().is_empty());
}

#[test]
fn elements_within_each_other_come_back_both() {
    let elements = ELEMENTS.replace("exclude = [\"cache/\"]", "exclude = [\"cache/\", \"conf/\"]");
    let host = Host::with(Lab::new(), &elements.replace("app/shop.conf", "app/shop/conf/main"), "");
    let fill = |word: &str| {
        host.fill(word);
        host.write("shop/conf/main", word);
        host.write("shop/conf/other", word);
    };
    fill("old");
    let id = host.init().collect();
    host.deliver(&id);
    fill("new");
    let report = host.restore(&["--yes"]).exits(0).json();
    assert_eq!(number(&report, "exchanged"), 2, "{report:#}");
    assert_eq!([host.read("shop/index.html"), host.read("shop/conf/main")], ["old"; 2]);
    assert_eq!(host.read("shop/conf/other"), "new", "what no element holds stays");
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    assert!(host.left_over().is_empty());
}

#[test]
fn a_way_that_is_a_link_is_refused_and_not_followed() {
    let host = Host::new();
    host.old_in_place_of_new();
    fs::rename(host.lab.path("app"), host.lab.path("moved")).unwrap();
    symlink(host.lab.path("moved"), host.lab.path("app")).unwrap();
    host.restore(&["--yes"]).exits(10);
    assert_eq!(fs::read_to_string(host.lab.path("moved/shop/index.html")).unwrap(), "new");
}

#[test]
fn the_procedure_of_the_application_gets_the_proven_generation_instead() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    host.lab.fake(
        "own-way",
        "set -e; test \"$(stat -c %u:%a \"$1\")\" = 0:700; cp \"$1/generation.toml\" {lab}/got",
    );
    host.config(ELEMENTS, "[restore]\nprocedure = [\"own-way\", \"{generation}\"]");
    host.restore(&["--yes", "--element", "www"]).exits(15);
    host.restore(&["--yes"]).exits(0);
    assert!(host.lab.text("got").contains(&id));
    assert_eq!(host.read("shop/index.html"), "new", "the steps of the elements were run as well");
    assert_eq!(names(&host.lab.path("home/restored")), [id.as_str()]);
    host.deliver(&id);
    host.lab.fake("own-way", "exit 3");
    host.restore(&["--yes"]).exits(3);
    assert_eq!(names(&host.lab.path("home/restore")), [id.as_str()]);
    host.collect();
}

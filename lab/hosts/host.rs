//! A host of the lab.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use testcontainers::{
    ContainerAsync, GenericImage, ImageExt as _,
    bollard::{
        body_full,
        models::{Mount, MountTmpfsOptions, MountType},
        query_parameters::{
            KillContainerOptionsBuilder, RestartContainerOptionsBuilder, UploadToContainerOptionsBuilder,
        },
    },
    core::{ExecCommand, WaitFor, wait::ExitWaitStrategy},
    runners::AsyncRunner as _,
};

use super::{
    Image,
    network::{LABEL, Network},
};

/// What a host has at `/home`.
#[derive(Clone, Copy)]
pub enum Home<'a> {
    /// A volume of its own.
    Volume,
    /// A file system of its own with so many bytes, in memory: gone when the host restarts.
    Small(i64),
    /// All disks of another host, as they are at any time, read-only.
    ReadOnly(&'a Host),
}

/// Runs its second argument with sh as the user that its first argument names, as a login of that user would.
const AS_USER: &str =
    r#"cd / && exec setpriv --reuid="$1" --regid="$(id -g "$1")" --init-groups --reset-env sh -c "$2""#;

/// A running host; dropped, it is gone with all that was on it.
pub struct Host {
    /// What the others call it.
    pub name: String,
    network: Arc<Network>,
    container: Option<ContainerAsync<GenericImage>>,
}

/// What a command said.
#[derive(Debug)]
pub struct Done {
    /// Its exit code.
    pub code: i64,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it said beside that.
    pub stderr: String,
}

impl Done {
    /// What it printed, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it printed, as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("no JSON: {e}: {self:?}"))
    }
}

impl Host {
    pub(super) fn start(network: &Arc<Network>, name: &str, image: Image, home: Home<'_>) -> Self {
        let (repository, tag) = image.name_and_tag();
        let mut mounts = ["/srv", "/var/lib"].map(volume).to_vec();
        let mut disks_of = None;
        match home {
            Home::Volume => mounts.push(volume("/home")),
            Home::Small(bytes) => mounts.push(small("/home", bytes)),
            Home::ReadOnly(of) => {
                mounts.clear();
                disks_of = Some(vec![format!("{}:ro", of.id())]);
            }
        }
        let request = GenericImage::new(repository, tag)
            .with_entrypoint("/usr/bin/tini")
            .with_wait_for(WaitFor::message_on_stdout("this host is up"))
            .with_cmd(["--", "/usr/local/bin/host"])
            .with_container_name(format!("{}-{name}", network.name))
            .with_hostname(name)
            .with_label(LABEL, std::process::id().to_string())
            .with_network(network.name.clone())
            .with_startup_timeout(Duration::from_secs(120))
            // On the machine's own file system: a layered one is slow, and not what a store lies on.
            .with_host_config_modifier(move |config| {
                (config.mounts, config.volumes_from) = (Some(mounts.clone()), disks_of.clone());
            });
        let container = network.runtime.block_on(request.start()).unwrap();
        let host = Self { name: name.to_owned(), network: Arc::clone(network), container: Some(container) };
        // Docker gives names only to a container that is connected with them.
        host.disconnect();
        host.connect();
        host
    }

    /// Runs an image by its own entry point.
    pub(super) fn run_once(network: &Network, image: Image, arguments: &[&str]) -> Done {
        let (repository, tag) = image.name_and_tag();
        let request = GenericImage::new(repository, tag)
            .with_wait_for(WaitFor::exit(ExitWaitStrategy::new()))
            .with_cmd(arguments.iter().copied())
            .with_label(LABEL, std::process::id().to_string())
            .with_network(network.name.clone());
        network.runtime.block_on(async {
            let container = request.start().await.unwrap();
            let code = container.exit_code().await.unwrap().unwrap();
            let stdout = container.stdout_to_vec().await.unwrap();
            let stderr = container.stderr_to_vec().await.unwrap();
            container.rm().await.unwrap();
            Done { code, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
        })
    }

    fn container(&self) -> &ContainerAsync<GenericImage> {
        self.container.as_ref().expect("it is there until it is dropped")
    }

    fn id(&self) -> &str {
        self.container().id()
    }

    /// Runs a script with sh as a user.
    pub fn run_as(&self, user: &str, script: &str) -> Done {
        let command = ["sh", "-c", AS_USER, "sh", user, script];
        self.network.runtime.block_on(async {
            let mut result = self.container().exec(ExecCommand::new(command)).await.unwrap();
            let stdout = result.stdout_to_vec().await.unwrap();
            let stderr = result.stderr_to_vec().await.unwrap();
            // The streams end a moment before Docker knows the exit code.
            let code = loop {
                match result.exit_code().await.unwrap() {
                    Some(code) => break code,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            };
            Done { code, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
        })
    }

    /// The same for a host that may end meanwhile; nothing then.
    pub fn try_run_as(&self, user: &str, script: &str) -> Option<Vec<u8>> {
        let command = ["sh", "-c", AS_USER, "sh", user, script];
        self.network.runtime.block_on(async {
            self.container().exec(ExecCommand::new(command)).await.ok()?.stdout_to_vec().await.ok()
        })
    }

    /// Runs a script with sh as root.
    pub fn run(&self, script: &str) -> Done {
        self.run_as("root", script)
    }

    /// Runs a script as a user; it must end well. What it printed.
    #[track_caller]
    pub fn must_as(&self, user: &str, script: &str) -> Done {
        let done = self.run_as(user, script);
        assert_eq!(done.code, 0, "{}: {user} ran: {script}\n{}{}", self.name, done.text(), done.stderr);
        done
    }

    /// Runs a script as root; it must end well. What it printed.
    #[track_caller]
    pub fn must(&self, script: &str) -> Done {
        self.must_as("root", script)
    }

    /// Writes a file, root's.
    pub fn put(&self, path: &str, content: &[u8], mode: u32) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, path.trim_start_matches('/'), content).unwrap();
        let bytes = archive.into_inner().unwrap();
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let docker = &self.network.docker;
        let put = docker.upload_to_container(self.id(), Some(options), body_full(bytes.into()));
        self.network.runtime.block_on(put).unwrap();
    }

    /// Reads a file.
    #[track_caller]
    pub fn get(&self, path: &str) -> Vec<u8> {
        self.must(&format!("cat '{path}'")).stdout
    }

    /// Waits until a script ends well, at most so long. How long it took.
    #[track_caller]
    pub fn wait_for(&self, script: &str, patience: Duration) -> Duration {
        let start = Instant::now();
        loop {
            let done = self.run(script);
            if done.code == 0 {
                return start.elapsed();
            }
            let waited = start.elapsed();
            assert!(waited < patience, "{}: not within {patience:?}: {script}\n{}", self.name, done.stderr);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Bytes that went over its network interface, both ways, as the kernel counts packets; since it was last connected.
    pub fn packets(&self) -> u64 {
        let counts =
            self.must("awk '$1 == \"eth0:\" || $1 == \"eth1:\" { print $2 + $10 }' /proc/net/dev").text();
        counts.lines().map(|line| line.trim().parse::<f64>().unwrap() as u64).sum()
    }

    /// Pulls its cable.
    pub fn disconnect(&self) {
        self.network.disconnect(self.id());
    }

    /// Puts the cable back in.
    pub fn connect(&self) {
        let names = [self.name.clone(), format!("{}.example.org", self.name)];
        self.network.connect(self.id(), &names);
    }

    /// Stops all its processes where they are. Docker gives that up now and then where they are busy ("unable to freeze"),
    /// and leaves them as they were.
    pub fn pause(&self) {
        let tries = 20;
        for left in (0..tries).rev() {
            match self.network.runtime.block_on(self.container().pause()) {
                Ok(()) => return,
                Err(e) if left == 0 || !e.to_string().contains("unable to freeze") => {
                    panic!("{} cannot be paused: {e}", self.name)
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Lets them go on.
    pub fn unpause(&self) {
        self.network.runtime.block_on(self.container().unpause()).unwrap();
    }

    /// Ends all its processes and starts it again, with the disks that it had.
    pub fn restart(&self) {
        let options = RestartContainerOptionsBuilder::new().t(1).build();
        let docker = &self.network.docker;
        self.network.runtime.block_on(docker.restart_container(self.id(), Some(options))).unwrap();
        self.wait_for("pidof sshd", Duration::from_secs(60));
    }

    /// Ends all its processes at once, as a power cut does to them; the disks stay as they are.
    pub fn kill(&self) {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        let docker = &self.network.docker;
        self.network.runtime.block_on(docker.kill_container(self.id(), Some(options))).unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(container) = self.container.take() else { return };
        if let Err(e) = self.network.runtime.block_on(container.rm()) {
            eprintln!("the host {} could not be removed: {e}", self.name);
        }
    }
}

/// A file system in memory that holds no more than this.
fn small(target: &str, bytes: i64) -> Mount {
    let options = MountTmpfsOptions { size_bytes: Some(bytes), mode: Some(0o755), ..Default::default() };
    Mount {
        target: Some(target.to_owned()),
        typ: Some(MountType::TMPFS),
        tmpfs_options: Some(options),
        ..Default::default()
    }
}

/// A volume without a name, which goes with its container.
fn volume(target: &str) -> Mount {
    Mount { target: Some(target.to_owned()), typ: Some(MountType::VOLUME), ..Default::default() }
}

//! A network of the lab, and the way to Docker's daemon.

use std::collections::HashMap;

use testcontainers::{
    bollard::{
        Docker,
        models::{EndpointSettings, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest},
        query_parameters::{
            ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
        },
    },
    core::client::docker_client_instance,
};
use tokio::runtime::Runtime;

/// The label of everything that is the lab's; its value is the process that started it.
pub const LABEL: &str = "handover.lab.process";

/// A network; removed when the last host in it is gone.
pub struct Network {
    pub runtime: Runtime,
    pub docker: Docker,
    pub name: String,
}

impl Network {
    pub fn create(name: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let docker = runtime.block_on(docker_client_instance()).unwrap();
        let network = Self { runtime, docker, name: name.to_owned() };
        network.sweep();
        let request =
            NetworkCreateRequest { name: name.to_owned(), labels: Some(labels()), ..Default::default() };
        let created = network.runtime.block_on(network.docker.create_network(request));
        if let Err(e) = created {
            panic!(
                "Docker does not answer, and the lab needs it: {e}; `lab/docker-up` sets it up, `lab/test --without-containers` leaves the lab out"
            );
        }
        network
    }

    /// Lets a container in, under these names.
    pub fn connect(&self, container: &str, names: &[String]) {
        let endpoint = EndpointSettings { aliases: Some(names.to_vec()), ..Default::default() };
        let request =
            NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint) };
        self.runtime.block_on(self.docker.connect_network(&self.name, request)).unwrap();
    }

    /// Pulls the cable of a container.
    pub fn disconnect(&self, container: &str) {
        let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
        self.runtime.block_on(self.docker.disconnect_network(&self.name, request)).unwrap();
    }

    /// Removes what processes left behind that are gone.
    fn sweep(&self) {
        let ours = HashMap::from([("label", vec![LABEL])]);
        let containers = ListContainersOptionsBuilder::new().all(true).filters(&ours).build();
        let networks = ListNetworksOptionsBuilder::new().filters(&ours).build();
        self.runtime.block_on(async {
            let remove = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            for container in self.docker.list_containers(Some(containers)).await.unwrap_or_default() {
                if is_left_behind(container.labels.as_ref()) {
                    let id = container.id.unwrap_or_default();
                    // Another run may be sweeping too.
                    let _ = self.docker.remove_container(&id, Some(remove.clone())).await;
                }
            }
            for network in self.docker.list_networks(Some(networks)).await.unwrap_or_default() {
                if is_left_behind(network.labels.as_ref()) {
                    let _ = self.docker.remove_network(&network.name.unwrap_or_default()).await;
                }
            }
        });
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(e) = self.runtime.block_on(self.docker.remove_network(&self.name)) {
            eprintln!("the network {} could not be removed: {e}", self.name);
        }
    }
}

/// What marks a thing as ours.
pub fn labels() -> HashMap<String, String> {
    HashMap::from([(LABEL.to_owned(), std::process::id().to_string())])
}

fn is_left_behind(labels: Option<&HashMap<String, String>>) -> bool {
    let process = labels.and_then(|labels| labels.get(LABEL));
    process.is_some_and(|id| !std::path::Path::new("/proc").join(id).exists())
}

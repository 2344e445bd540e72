//! Answers of container engines, and files of container runtimes.

use crate::Target;

/// Wherever a stream of events is cut, its lines are the same; what they and a list say is to the aggregator's liking.
pub const TARGET: Target = Target {
    name: "engine",
    about: "events and the list of containers, as Docker and Podman answer; bundles of containerd, storage of Podman",
    run: node_agent::fuzzing::engine,
    seeds: || {
        let id = "69e2ffc0a263c8af0f7df720a5e4ba6fdd1411f523aa6586e3c3c9d92f97a137";
        [
            // Docker 20.10
            r#"{"status":"create","id":"ID","from":"shop:1","Type":"container","Action":"create","Actor":{"ID":"ID","Attributes":{"com.docker.compose.project":"shop","com.docker.compose.service":"web","image":"shop:1","name":"web-1","odd":"é \"q\" {"}},"scope":"local","time":1795284683,"timeNano":1795284683918657610}
{"status":"die","id":"ID","from":"shop:1","Type":"container","Action":"die","Actor":{"ID":"ID","Attributes":{"exitCode":"0","image":"shop:1","name":"web-1"}},"scope":"local","time":1795284685,"timeNano":1795284685248003853}
{"status":"rename","id":"ID","from":"shop:1","Type":"container","Action":"rename","Actor":{"ID":"ID","Attributes":{"image":"shop:1","name":"web-2","oldName":"/web-1"}},"scope":"local","time":1795284685,"timeNano":1795284685515060425}
"#,
            r#"[{"Id":"ID","Names":["/db/web","/web-2"],"Image":"shop:1","ImageID":"sha256:62982bbe6ea8","Command":"/bin/busybox sleep 100","Created":1795284683,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}],"Labels":{"com.docker.compose.project":"shop"},"State":"running","Status":"Up 1 second","HostConfig":{"NetworkMode":"n1"},"NetworkSettings":{"Networks":{"n1":{"IPAMConfig":null,"IPAddress":"172.18.0.2","IPPrefixLen":16}}},"Mounts":[]},{"Id":"ID","Names":null,"Labels":null},7]
"#,
            // What a swarm and a kubelet write, behind the mark of a sequence of JSON texts.
            "\u{1e}{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"ID\",\"Attributes\":{\"com.docker.stack.namespace\":\"shop\",\"com.docker.swarm.service.name\":\"shop_web\",\"name\":\"shop_web.1.x7\"}}}\n\u{1e}{\"Action\":\"remove\",\"Actor\":{\"ID\":\"ID\",\"Attributes\":{\"io.kubernetes.pod.name\":\"web-x7\",\"io.kubernetes.pod.namespace\":\"shop\",\"io.kubernetes.container.name\":\"nginx\",\"name\":\"k8s_nginx\"}}}\r\n",
            // containerd 1.6 for a kubelet, and Podman 4.3
            r#"{"ociVersion":"1.0.2-dev","root":{"path":"rootfs"},"annotations":{"io.kubernetes.cri.container-name":"nginx","io.kubernetes.cri.image-name":"docker.io/library/nginx:1","io.kubernetes.cri.sandbox-name":"web-x7","io.kubernetes.cri.sandbox-namespace":"shop","nerdctl/name":"web"}}"#,
            r#"[{"id":"ID","names":["web-1"],"image":"8671a4e81949","layer":"77114cc56f45","metadata":"{\"image-name\":\"localhost/shop:1\",\"name\":\"web-1\",\"created-at\":1795286873}","created":"2026-11-21T18:47:53.547259887Z","flags":{"MountLabel":""}},{"id":"ID","names":["k8s_nginx_web-x7_shop_0a1b_0"]}]"#,
        ]
        .map(|text| [b"\x07", text.replace("ID", id).as_bytes()].concat())
        .into()
    },
    longest: 4096,
};

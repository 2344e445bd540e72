use testbed::apiserver::recorded;

use super::*;

fn pod(event: &str) -> Pod {
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    serde_json::from_value(event["object"].clone()).unwrap()
}

fn listed() -> Vec<Pod> {
    let items = recorded::PODS.iter().flat_map(|page| {
        let page: serde_json::Value = serde_json::from_str(page).unwrap();
        page["items"].as_array().unwrap().clone()
    });
    items.map(|item| serde_json::from_value(item).unwrap()).collect()
}

fn pods() -> (Pods, Instant) {
    (Pods::new(Labels::new(vec!["team".to_owned()])), Instant::now())
}

/// Whether it has ended, its id's first digits, owner, pod, and name within the pod.
fn word(news: News) -> String {
    let (mark, name) = match news {
        News::Called(name) => ("+", name),
        News::Ended(name) => ("-", name),
        News::Running(names) => {
            let mut words: Vec<_> = names.into_iter().map(|n| word(News::Called(n))).collect();
            words.sort();
            return words.join(" ");
        }
    };
    let label = |key: &str| name.called.labels.get(key).map_or("", String::as_str);
    format!("{mark}{}:{}:{}", &name.container[..2], label("owner"), label("container"))
}

fn words(news: Vec<News>) -> Vec<String> {
    news.into_iter().map(word).collect()
}

#[test]
fn a_list_names_all_that_run_and_those_that_ran() {
    let (mut pods, now) = pods();
    let news = words(pods.take(Event::Restarted(listed()), now));
    assert_eq!(
        news[0],
        "+a1:web:nginx +a2:web:sidecar +b1:web:nginx +b2:web:sidecar +c1:db:postgres \
         +d1:exporter:exporter +e1:kube-apiserver:kube-apiserver"
    );
    // One that was killed, and one that came before the others.
    assert_eq!(news[1..], ["-c0:db:postgres", "-a3:web:migrate"]);
    assert_eq!((pods.len(), pods.take_refused()), (5, 0));
    let Some(News::Called(web)) = pods.ask("a1a1a1a1a1a1".into(), recorded::pod(1), now) else {
        panic!("it is known");
    };
    assert_eq!(web.called.name, "web-6d8f9c7b54-x7k2p");
    assert_eq!(web.called.namespace, "shop");
    let labels: Vec<_> = web.called.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        labels,
        [
            "app.kubernetes.io/name=web",
            "app.kubernetes.io/part-of=shop",
            "container=nginx",
            "image=docker.io/library/nginx:1.29",
            "owner=web",
            "owner.kind=Deployment",
            "team=blue",
        ]
    );
    // By what the kubelet calls what it has from a file.
    let of_a_file = pods.ask("0".repeat(12), "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(), now);
    assert_eq!(word(of_a_file.unwrap()), "+00:kube-apiserver:");
}

#[test]
fn a_container_of_which_nothing_is_said_yet_is_of_its_pod() {
    let (mut pods, now) = pods();
    let asked = |pods: &mut Pods| pods.ask("f1f1f1f1f1f1".into(), recorded::pod(6), now).map(word);
    assert_eq!(asked(&mut pods), None, "the pod is not known");
    assert_eq!(words(pods.take(Event::Applied(pod(recorded::JOB_ADDED)), now)), ["+f1:report:"]);
    assert_eq!(asked(&mut pods).as_deref(), Some("+f1:report:"));
    // It stays as long as nothing else is said of it.
    assert_eq!(
        words(pods.take(Event::Restarted(vec![pod(recorded::JOB_ADDED)]), now)),
        ["+f1:report:"]
    );
    let running = words(pods.take(Event::Applied(pod(recorded::JOB_RUNNING)), now));
    assert_eq!(running, ["+f1:report:report"]);
    let ended = words(pods.take(Event::Applied(pod(recorded::JOB_ENDED)), now));
    assert_eq!(ended, ["-f1:report:report"]);
    assert_eq!(asked(&mut pods).as_deref(), Some("-f1:report:report"));
}

#[test]
fn a_container_is_of_the_pod_whose_status_names_it() {
    let (mut pods, now) = pods();
    pods.take(Event::Restarted(listed()), now);
    let asked = |pods: &mut Pods, pod| pods.ask("f1f1f1f1f1f1".into(), recorded::pod(pod), now);
    // By paths it is of one that is there, and of one that is not yet.
    assert_eq!(asked(&mut pods, 3).map(word).as_deref(), Some("+f1:db:"));
    assert!(asked(&mut pods, 9).is_none());
    let running = words(pods.take(Event::Applied(pod(recorded::JOB_RUNNING)), now));
    assert_eq!(running, ["+f1:report:report"]);
    assert_eq!(asked(&mut pods, 3).map(word).as_deref(), Some("+f1:report:report"));
    assert!(pods.pods.values().all(|held| held.asked.is_empty()) && pods.waiting.is_empty());
    let running = words(pods.take(Event::Restarted(vec![pod(recorded::JOB_RUNNING)]), now));
    assert_eq!(running[0], "+f1:report:report");
    let listed = words(pods.take(Event::Restarted(listed()), now));
    assert!(!listed.iter().any(|word| word.contains("f1:db")), "{listed:?}");
}

#[test]
fn a_pod_that_is_gone_is_known_for_some_minutes() {
    let (mut pods, now) = pods();
    pods.take(Event::Restarted(listed()), now);
    let gone = words(pods.take(Event::Deleted(pod(recorded::WEB_DELETED)), now));
    assert_eq!(gone, ["-b1:web:nginx", "-b2:web:sidecar"]);
    let new = words(pods.take(Event::Applied(pod(recorded::WEB_REPLACED)), now));
    assert_eq!(new, ["+b7:web:nginx"]);
    let asked = |pods: &mut Pods, at| pods.ask("1".repeat(12), recorded::pod(2), at).map(word);
    assert_eq!(asked(&mut pods, now).as_deref(), Some("-11:web:"));
    pods.forget(now + KEPT / 2);
    assert!(asked(&mut pods, now + KEPT / 2).is_some());
    pods.forget(now + KEPT);
    assert_eq!(asked(&mut pods, now + KEPT), None);
    // Whoever was waited for so long is not any more.
    pods.forget(now + 2 * KEPT);
    assert!(pods.waiting.is_empty());
    // What is not in a list is gone.
    let news = words(pods.take(Event::Restarted(Vec::new()), now));
    assert_eq!((news, pods.len()), (vec![String::new()], 0));
}

#[test]
fn there_is_room_for_so_many() {
    let (mut pods, now) = pods();
    let numbered = |number: usize| {
        let mut pod = pod(recorded::JOB_RUNNING);
        pod.metadata.uid = number.to_string();
        pod
    };
    for number in 0..MOST_PODS {
        pods.take(Event::Applied(numbered(number)), now);
    }
    assert!(pods.take(Event::Applied(numbered(MOST_PODS)), now).is_empty());
    assert_eq!((pods.len(), pods.take_refused()), (MOST_PODS, 1));
    pods.take(Event::Deleted(numbered(7)), now);
    assert_eq!(pods.take(Event::Applied(numbered(MOST_PODS)), now).len(), 1);
    for number in 0..=MOST_WAITING {
        pods.ask(number.to_string(), "nobody".into(), now);
    }
    assert_eq!(pods.waiting.len(), MOST_WAITING);
    assert!(pods.take(Event::Applied(Pod::default()), now).is_empty());
    assert_eq!(pods.take_refused(), 1);
}

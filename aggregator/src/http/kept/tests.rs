//! Whoever asks for the same shares an answer, and nobody waits for what is wanted now and then.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicUsize;

use tokio::task::JoinSet;

use super::*;

const TAKES: Duration = Duration::from_millis(300);

/// An answer that says how many were made before it, and has so many bytes besides.
fn slot(made: &Arc<AtomicUsize>, large: bool, size: usize) -> Arc<Slot> {
    Arc::new(Slot::new(maker(made, large, size), Ends::Now, Instant::now()))
}

fn maker(made: &Arc<AtomicUsize>, large: bool, size: usize) -> Make {
    let made = Arc::clone(made);
    Box::new(move || {
        let made = Arc::clone(&made);
        Box::pin(async move {
            let taken = Instant::now();
            sleep(TAKES).await;
            let mut body = made.fetch_add(1, Ordering::Relaxed).to_string();
            body.extend(std::iter::repeat_n(' ', size));
            Ok(Made { body: body.into(), taken, large })
        })
    })
}

async fn ask(slot: &Slot, is_warm: bool) -> (Bytes, Duration) {
    let asked = Instant::now();
    let made = slot.get(is_warm).await.map_err(|_| "not made").unwrap();
    (made.body, asked.elapsed())
}

#[tokio::test(start_paused = true)]
async fn who_comes_together_shares_an_answer_that_is_of_after_they_came() {
    let slot = slot(&Arc::default(), false, 0);
    let mut readers = JoinSet::new();
    for _ in 0..5 {
        let slot = Arc::clone(&slot);
        readers.spawn(async move { ask(&slot, true).await.0 });
    }
    sleep(TAKES / 2).await;
    // What is being made is not of after this one came.
    assert_eq!(ask(&slot, true).await.0, "1");
    assert!(readers.join_all().await.iter().all(|body| body == "0"));
    assert_eq!(ask(&slot, true).await.0, "2");
}

#[tokio::test(start_paused = true)]
async fn of_a_large_graph_the_last_answer_is_good_for_a_second() {
    let slot = slot(&Arc::default(), true, 0);
    assert_eq!(ask(&slot, false).await, (Bytes::from("0"), TAKES));
    sleep(GOOD_FOR - TAKES).await;
    assert_eq!(ask(&slot, false).await, (Bytes::from("0"), Duration::ZERO));
    sleep(TAKES).await;
    assert_eq!(ask(&slot, false).await, (Bytes::from("1"), TAKES), "an older one is not told");
}

/// Somebody who ticks once a second, and keeps warm what is wanted.
fn keep_warm(kept: &Arc<Kept>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (kept, ticks) = (Arc::clone(kept), Arc::clone(kept));
    tasks.spawn(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            ticks.ticked(true);
        }
    });
    tasks.spawn(async move { kept.keep_warm(|| Some(())).await });
    tasks
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_somebody_wants_now_and_then() {
    let (kept, made) = (Arc::<Kept>::default(), Arc::<AtomicUsize>::default());
    let slots = [0, 1].map(|number| kept.slot(key(number), maker(&made, true, 0)));
    for slot in &slots {
        assert_eq!(ask(slot, false).await.1, TAKES);
    }
    let mut tasks = keep_warm(&kept);
    for _ in 0..20 {
        sleep(WANTED_FOR - GOOD_FOR).await;
        let now = Instant::now();
        for slot in &slots {
            assert_eq!(ask(slot, true).await.1, Duration::ZERO);
            let age = now - slot.state().last.as_ref().unwrap().taken;
            assert!(age <= Duration::from_secs(4), "{age:?}");
        }
    }
    // A third of the time at most, and not at all once nobody wants it any more.
    let most = 20 * WANTED_FOR.as_millis() / (3 * TAKES).as_millis();
    let after = made.load(Ordering::Relaxed);
    assert!((after as u128) < most, "{after} of {most}");
    sleep(2 * WANTED_FOR).await;
    assert!(tasks.try_join_next().is_some(), "it ends");
    let after = made.load(Ordering::Relaxed);
    sleep(WANTED_FOR).await;
    assert_eq!(made.load(Ordering::Relaxed), after);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_small_graph_is_not_made_for_nobody() {
    let kept = Arc::<Kept>::default();
    let slot = kept.slot(key(0), maker(&Arc::default(), false, 0));
    ask(&slot, false).await;
    assert!(kept.next().is_none());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_answer_that_is_too_large_to_be_kept() {
    let made = Arc::default();
    let slot = slot(&made, true, MOST_BYTES);
    ask(&slot, true).await;
    let mut readers = JoinSet::new();
    for _ in 0..3 {
        let slot = Arc::clone(&slot);
        readers.spawn(async move { ask(&slot, true).await.1 });
    }
    let took = readers.join_all().await;
    assert!(took.iter().all(|took| *took == TAKES), "one beside the other: {took:?}");
    assert_eq!(made.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn few_are_kept_and_not_for_long() {
    let (kept, made) = (Kept::default(), Arc::default());
    for number in 0..3 * MOST {
        ask(&kept.slot(key(number), maker(&made, true, 0)), false).await;
    }
    assert!(kept.slots().len() <= MOST);
    sleep(WANTED_FOR).await;
    ask(&kept.slot(key(0), maker(&made, true, 0)), false).await;
    assert_eq!(kept.slots().len(), 1);
}

fn key(number: usize) -> (Key, Ends) {
    (Key { route: "x", query: number.to_string(), namespaces: None }, Ends::Now)
}

#[tokio::test(start_paused = true)]
async fn a_window_that_has_ended_is_not_made_for_nobody() {
    let kept = Kept::default();
    let key = (key(0).0, Ends::Before);
    ask(&kept.slot(key, maker(&Arc::default(), true, 0)), false).await;
    assert!(kept.next().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_wanted_now_displaces_what_was_wanted_before() {
    let (kept, made) = (Kept::default(), Arc::default());
    for number in 0..=MOST {
        ask(&kept.slot(key(number), maker(&made, true, 0)), false).await;
    }
    let is_kept = |number| kept.slots().contains_key(&key(number).0);
    assert!(!is_kept(0) && is_kept(1) && is_kept(MOST));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_good_for_longer_once_it_has_been_made_again() {
    let slot = slot(&Arc::default(), true, 0);
    ask(&slot, true).await;
    sleep(GOOD_FOR + TAKES).await;
    assert_eq!(ask(&slot, true).await.0, "1", "nobody has made it again");
    assert!(slot.make_one_more().await.is_ok());
    sleep(GOOD_FOR + TAKES).await;
    assert_eq!(ask(&slot, true).await.0, "2");
    sleep(GOOD_FOR_AT_MOST).await;
    assert_eq!(ask(&slot, true).await.0, "3");
}

#[test]
fn who_may_see_less_has_answers_of_their_own() {
    let grant = |namespaces: Option<&str>| Grant {
        name: String::new(),
        role: crate::config::Role::Read,
        namespaces: namespaces.map(|namespace| [namespace.to_owned()].into()),
    };
    let key = |namespaces| Key::new("x", "q".to_owned(), &grant(namespaces));
    assert_eq!(key(Some("a")), key(Some("a")));
    assert_ne!(key(Some("a")), key(Some("b")));
    assert_ne!(key(Some("a")), key(None));
}

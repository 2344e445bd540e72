//! Everything ends well and nothing is left.

use std::{
    thread,
    time::{Duration, Instant},
};

use testbed::{fleet::KernelObjects, lab::processes};

use crate::{
    support::{burst, exchange},
    world::world,
};

#[test]
fn nothing_is_left_of_agents_and_aggregator() {
    let Some(mut world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    web.burst(burst(target, 10, exchange(1, 100, 100))).unwrap();
    world.must_show(&mut [&mut web, &mut db]);
    drop((web, db));

    let mut held = KernelObjects::default();
    for agent in world.fleet.agents() {
        let of_agent = KernelObjects::held_by(agent.process.id()).unwrap();
        assert!(!of_agent.programs.is_empty() && !of_agent.maps.is_empty(), "{of_agent:?}");
        assert!(!of_agent.links.is_empty(), "{of_agent:?}");
        held.programs.extend(of_agent.programs);
        held.maps.extend(of_agent.maps);
        held.links.extend(of_agent.links);
    }
    let cgroup = world.lab.cgroup().to_owned();
    // Exit codes are looked at here.
    world.fleet.stop().unwrap();
    assert_eq!(processes(&cgroup), Vec::<i32>::new());
    // The kernel frees programs and maps a moment after their last user is gone.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = held.intersection(&KernelObjects::in_kernel().unwrap());
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "left: {left:?}");
        thread::sleep(Duration::from_millis(50));
    }
    drop((world.hosts, world.lab));
    assert!(!cgroup.exists());
}

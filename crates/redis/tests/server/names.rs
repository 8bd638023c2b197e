//! Unique names, and members that replace others.

use tower_chat_rooms_redis::{EnterError, EventKind, NewMember, Settings, Stamp};

use crate::rooms::nodes;
use crate::support::{Data, Server, TestNode, member};

fn named(id: &str, name: &str, owner: &str) -> NewMember {
    member(id).unique_as(name).owner(owner)
}

fn taken_by(holder: &str) -> Result<Stamp, EnterError> {
    Err(EnterError::NameTaken { without_owner: (!holder.is_empty()).then(|| holder.into()) })
}

#[tokio::test]
async fn names_are_unique_on_all_nodes() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    a.enter("r", member("m1").unique_as("ann"), None).await.unwrap();
    assert_eq!(b.enter("r", member("m2").unique_as("ann"), None).await, taken_by("m1"));
    b.enter("other", member("m3").unique_as("ann"), None).await.unwrap();
    a.leave("r", "m1", None).await.unwrap();
    b.enter("r", member("m4").unique_as("ann"), None).await.unwrap();
}

#[tokio::test]
async fn members_of_one_user_share_a_name() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    a.enter("r", named("m1", "ann", "u"), None).await.unwrap();
    b.enter("r", named("m2", "ann", "u"), None).await.unwrap();
    for owner in ["other", ""] {
        assert_eq!(b.enter("r", named("m3", "ann", owner), None).await, taken_by(""));
    }
    a.leave("r", "m1", None).await.unwrap();
    assert_eq!(a.enter("r", named("m4", "ann", ""), None).await, taken_by(""), "the other one still has it");
    b.leave("r", "m2", None).await.unwrap();
    a.enter("r", named("m4", "ann", ""), None).await.unwrap();
    // It gets an owner later.
    assert_eq!(b.enter("r", named("m5", "ann", "u"), None).await, taken_by("m4"));
    a.set_owner("r", "m4", "u").await;
    b.enter("r", named("m5", "ann", "u"), None).await.unwrap();
    assert_eq!(b.enter("r", named("m6", "ann", "v"), None).await, taken_by(""));
    a.set_owner("r", "gone", "u").await;
    for (node, id) in [(&a, "m4"), (&b, "m5")] {
        node.leave("r", id, None).await.unwrap();
    }
    for node in [a, b] {
        node.close().await;
    }
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_member_replaces_another_one_in_one_step() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    let first = a.enter("r", named("m1", "ann", ""), Some(1)).await.unwrap();
    // The room is full and neither ends nor begins anew.
    let renamed = named("m2", "bob", "").replaces("m1");
    let stamp = a.enter("r", renamed.clone(), Some(1)).await.unwrap();
    assert_eq!((stamp.epoch, stamp.event, stamp.seq, stamp.num), (first.epoch, 3, 3, 1));
    assert_eq!(a.enter("r", renamed, Some(1)).await, Ok(stamp), "a repeated call changes nothing");
    a.until_heard("r", stamp).await;
    assert_eq!(a.bodies("r"), ["+m1", "-m1", "+m2"]);
    assert_eq!(a.events("r")[1].stamp.num, 0);
    let flags: Vec<_> = a.events("r").iter().map(|event| (event.is_last, event.is_replaced)).collect();
    assert_eq!(flags, [(false, false), (false, true), (false, false)]);
    // The old name is free, and its own name does not hinder it.
    b.enter("r", named("m3", "ann", ""), None).await.unwrap();
    assert_eq!(a.enter("r", named("m4", "ann", "").replaces("m2"), None).await, taken_by("m3"));
    a.enter("r", named("m5", "bob", "").replaces("m2"), None).await.unwrap();
    assert_eq!(a.leave("r", "m2", None).await, None, "it was replaced");
    // What was refused has changed nothing.
    let last = a.leave("r", "m5", Some("-m5".into())).await.unwrap();
    assert_eq!((last.num, a.leave("r", "m4", None).await), (1, None));
    a.until_heard("r", last).await;
    assert_eq!(a.bodies("r")[3..], ["+m3", "-m2", "+m5", "-m5"]);
    // Without the other one, it enters nevertheless.
    b.enter("r", named("m6", "eve", "").replaces("gone"), None).await.unwrap();
    assert_eq!(b.enter("r", member("m7").replaces("gone"), Some(2)).await, Err(EnterError::RoomFull));
}

#[tokio::test]
async fn hidden_members_change_nothing_but_are_members() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    let spy = a.enter("r", member("spy").hidden(), None).await.unwrap();
    assert_eq!((spy.event, spy.seq, spy.num), (1, 0, 0));
    b.enter("r", member("ann"), Some(2)).await.unwrap();
    assert_eq!(
        b.enter("r", member("bob"), Some(2)).await,
        Err(EnterError::RoomFull),
        "they count for the limit"
    );
    let out = b.leave("r", "ann", Some("-ann".into())).await.unwrap();
    assert_eq!((out.epoch, out.num), (spy.epoch, 0));
    let again = b.enter("r", member("bob"), None).await.unwrap();
    assert_eq!((again.epoch, again.num), (spy.epoch, 1), "the room has not ended");
    let last = a.leave("r", "spy", Some("-spy".into())).await.unwrap();
    a.until_heard("r", last).await;
    use EventKind::{Enter, HiddenEnter, HiddenLeave, Leave};
    let kinds: Vec<_> = a.events("r").iter().map(|event| (event.kind, event.stamp.num)).collect();
    assert_eq!(kinds, [(HiddenEnter, 0), (Enter, 1), (Leave, 0), (Enter, 1), (HiddenLeave, 1)]);
    let end = b.leave("r", "bob", None).await.unwrap();
    b.until_heard("r", end).await;
    let ends: Vec<_> = b.events("r").iter().map(|event| event.is_last).collect();
    assert_eq!(ends.iter().filter(|is_last| **is_last).count(), 1, "{ends:?}");
    for node in [a, b] {
        node.close().await;
    }
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

/// The numbers of events go on with each epoch, and so do the places, by which the roster's pages go.
#[tokio::test]
async fn a_roster_has_members_of_all_epochs_in_their_order() {
    let mut server = Server::start_with(Data::Everything).await;
    let settings = || Settings::new(server.url());
    let a = TestNode::connect(settings()).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let id = format!("m{n}");
        let stamp = a.enter("r", member(&id), None).await.unwrap();
        if n == 2 {
            server.kill();
            server.spawn().await;
            a.until("a reset", |heard| {
                heard.iter().any(|event| matches!(event, tower_chat_rooms_redis::Event::Reset { .. }))
            })
            .await;
        }
        assert_eq!(stamp.event, n + 1);
        ids.push(id);
    }
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = a.roster("r", after, 2).await.unwrap();
        let Some(last) = page.members.last() else { break };
        after = last.place;
        found.extend(page.members.into_iter().map(|entry| entry.member.to_string()));
    }
    assert_eq!(found, ids);
}

//! Unique names in rooms that several nodes share.

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, Denied, SharedBroker, UniqueNames, User};

use crate::nodes::{nodes, stop};
use crate::support::{Client, EventLog, enter_frame};

/// Enters the room "r", and returns the answer.
async fn enter(client: &mut Client, name: &str) -> Value {
    client.send(enter_frame(name, "r")).await;
    loop {
        let frame = client.next().await;
        let event = frame["event"].as_str().unwrap();
        if event == "error" || event == "enter" && frame["name"].as_str().unwrap().trim() == name.trim() {
            return frame;
        }
    }
}

async fn connect(rooms: &ChatRooms, user: Option<&str>) -> Client {
    let admission = user.map_or(Admission::anonymous(), |id| Admission::user(User::new(id)));
    Client::connect_as(rooms, admission, 64 * 1024).await
}

pub(crate) async fn names_are_unique([one, other]: [ChatRooms; 2]) {
    let (mut ann, mut eve) = (connect(&one, None).await, connect(&other, None).await);
    assert_eq!(enter(&mut ann, "Straße").await["num"], 1);
    for name in ["Straße", "STRASSE", " strasse "] {
        assert_eq!(enter(&mut eve, name).await["code"], "name_taken", "{name}");
    }
    assert!(other.rooms().is_empty(), "nothing is left of an enter that was refused");
    assert_eq!(enter(&mut eve, "eve").await["num"], 2);
    assert_eq!(enter(&mut eve, "STRASSE").await["code"], "name_taken");
    // A member can change the case of its own name, and another name makes its own free.
    assert_eq!(enter(&mut ann, "STRASSE").await["num"], 2);
    assert_eq!(enter(&mut eve, "Straße").await["code"], "name_taken");
    assert_eq!(enter(&mut ann, "ann").await["num"], 2);
    assert_eq!(enter(&mut eve, "Straße").await["num"], 2);
    ann.close().await;
    assert_eq!(eve.next_of("out").await["name"], "ann");
    assert_eq!(enter(&mut eve, "ann").await["num"], 1);
    eve.close().await;
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_unique_name_occurs_once_on_all_nodes() {
    let broker = SharedBroker::new();
    names_are_unique(nodes(&broker, |builder| builder.unique_names(UniqueNames::AnyCase))).await;
}

pub(crate) async fn users_share_names([one, other]: [ChatRooms; 2]) {
    let mut first = connect(&one, Some("u1")).await;
    assert_eq!(enter(&mut first, "ann").await["num"], 1);
    let mut second = connect(&other, Some("u1")).await;
    assert_eq!(enter(&mut second, "ann").await["num"], 2);
    for user in [Some("u2"), None] {
        let mut eve = connect(&one, user).await;
        assert_eq!(enter(&mut eve, "ann").await["code"], "name_taken");
        eve.close().await;
    }
    first.close().await;
    assert_eq!(second.next_of("out").await["num"], 1);
    let mut eve = connect(&one, None).await;
    assert_eq!(enter(&mut eve, "ann").await["code"], "name_taken");
    second.close().await;
    // The leave of the other node's member is on its way.
    while enter(&mut eve, "ann").await["event"] == "error" {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    eve.close().await;
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_connections_of_one_user_share_a_name_on_all_nodes() {
    let broker = SharedBroker::new();
    users_share_names(nodes(&broker, |builder| builder.unique_names(UniqueNames::Exact))).await;
}

pub(crate) async fn a_user_takes_its_name([one, other]: [ChatRooms; 2], log: &EventLog) {
    let (mut eve, _) = Client::connect_v1(&one, Admission::anonymous()).await;
    assert_eq!(enter(&mut eve, "ANN").await["num"], 1);
    let ann = || Admission::user(User::new("u-1").with_name("Ann"));
    let mut first = Client::connect_as(&other, ann(), 64 * 1024).await;
    first.send(enter_frame("whatever", "r")).await;
    assert_eq!(first.next_of("enter").await["name"], "Ann");
    let put_out = eve.next_of("left").await;
    assert_eq!((&put_out["code"], &put_out["roomId"]), (&json!("name_taken"), &json!("r")));
    // Its connection stays open, and can enter under another name.
    assert_eq!(enter(&mut eve, "Ann").await["code"], "name_taken");
    assert_eq!(enter(&mut eve, "Eve").await["num"], 2);
    // Another connection of the same user shares the name. Another user does not get it.
    let mut second = Client::connect_as(&one, ann(), 64 * 1024).await;
    second.send(enter_frame("", "r")).await;
    assert_eq!(second.next_of("enter").await["name"], "Ann");
    let mut third =
        Client::connect_as(&one, Admission::user(User::new("u-2").with_name("ann")), 64 * 1024).await;
    third.send(enter_frame("", "r")).await;
    assert_eq!(third.next().await["code"], "name_taken");
    assert_eq!(log.take()[..3], ["+ ANN r 1", "- ANN r 0 name taken by its user", "+ Ann r 1"]);
    for client in [eve, first, second, third] {
        client.close().await;
    }
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_user_takes_its_name_from_an_anonymous_member_of_another_node() {
    let (broker, log) = (SharedBroker::new(), EventLog::default());
    let nodes = nodes(&broker, |builder| builder.unique_names(UniqueNames::AnyCase).events(log.hook()));
    a_user_takes_its_name(nodes, &log).await;
}

/// Accepts names of users as their tokens. A token with a dot is a user without a name of its own.
pub(crate) async fn on_token(token: String) -> Result<User, Denied> {
    let user = User::new(token.clone());
    Ok(if token.contains('.') { user } else { user.with_name(token) })
}

pub(crate) async fn members_authenticate([one, other]: [ChatRooms; 2]) {
    let (mut eve, _) = Client::connect_v1(&one, Admission::anonymous()).await;
    assert_eq!(enter(&mut eve, "admin").await["num"], 1);
    let (mut ann, _) = Client::connect_v1(&one, Admission::anonymous()).await;
    assert_eq!(enter(&mut ann, "ann").await["num"], 2);
    assert_eq!(eve.next().await["name"], "ann");
    eve.authenticate("eve").await;
    assert_eq!(ann.next().await["user"], "eve");
    ann.authenticate("u.1").await;
    // A user's connections share the name that one of them had before it has authenticated.
    let mut second = connect(&other, Some("u.1")).await;
    while enter(&mut second, "ann").await["event"] == "error" {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    // It cannot be taken any more. The name of a user with another name of its own can.
    for (name, is_taken) in [("ann", true), ("admin", false)] {
        let user = Admission::user(User::new(name).with_name(name));
        let mut client = Client::connect_as(&other, user, 64 * 1024).await;
        let answer = enter(&mut client, name).await;
        assert_eq!(answer["code"] == "name_taken", is_taken, "{answer}");
        client.close().await;
    }
    assert_eq!(eve.next_of("left").await["code"], "name_taken");
    for client in [eve, ann, second] {
        client.close().await;
    }
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_authenticates_keeps_its_name_on_all_nodes() {
    let broker = SharedBroker::new();
    members_authenticate(nodes(&broker, |builder| builder.unique_names(UniqueNames::Exact).auth(on_token)))
        .await;
}

/// A node that was cut off enters its members again, but other members may have their names.
#[tokio::test(start_paused = true)]
async fn a_member_is_out_if_another_one_got_its_name_while_its_node_was_cut_off() {
    let (broker, log) = (SharedBroker::new(), EventLog::default());
    let [one, other] = nodes(&broker, |builder| builder.events(log.hook()));
    let (mut ann, _) = Client::connect_v1(&one, Admission::anonymous()).await;
    assert_eq!(enter(&mut ann, "ann").await["num"], 1);
    let mut bob = connect(&other, None).await;
    assert_eq!(enter(&mut bob, "bob").await["num"], 2);
    broker.evict_members(1);
    assert_eq!(bob.next_of("out").await["num"], 1);
    assert_eq!(ann.next_of("left").await["code"], "name_taken");
    // Its connection stays open.
    assert_eq!(enter(&mut ann, "eve").await["num"], 2);
    assert_eq!(one.check_consistency().faults, []);
    for client in [ann, bob] {
        client.close().await;
    }
    let is_out = |line: &String| line.starts_with("- ann r") && line.ends_with("name taken by its user");
    assert_eq!(log.take().iter().filter(|line| is_out(line)).count(), 1);
    stop([one, other]).await;
}

/// Nobody answers for the members of a node that is gone, until they are removed.
#[tokio::test(start_paused = true)]
async fn a_name_stays_taken_until_the_members_of_a_lost_node_are_removed() {
    let broker = SharedBroker::new();
    let [one] = nodes(&broker, |builder| builder.unique_names(UniqueNames::Exact));
    let node = broker.node();
    let number = node.number();
    let lost = ChatRooms::builder().unique_names(UniqueNames::Exact).broker(node).build().unwrap();
    let mut eve = connect(&lost, None).await;
    assert_eq!(enter(&mut eve, "ann").await["num"], 1);
    let user = Admission::user(User::new("ann").with_name("ann"));
    let mut ann = Client::connect_as(&one, user, 64 * 1024).await;
    broker.set_delivering(false);
    assert_eq!(enter(&mut ann, "ann").await["code"], "name_taken");
    broker.remove_node(number);
    broker.set_delivering(true);
    assert_eq!(enter(&mut ann, "ann").await["num"], 1);
    drop((eve, lost));
    ann.close().await;
    stop([one]).await;
}

//! A client that follows the frames knows exactly the roster that the server has, whatever the members do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use tower_chat_rooms::{
    Access, Admission, ChatRooms, ChatRoomsBuilder, Denied, EnterRequest, History, Presence, Recovery,
    RoomId, RoomPolicy, SharedBroker, User,
};

use crate::support::{
    Client, RESUME_WINDOW, Random, assert_empty, enter_frame, has_shared_broker, leave_frame, message_frame,
    run_other_tasks, unlimited,
};

const ROOMS: [&str; 4] = ["full", "count", "quiet", "auto"];
const CLIENTS: u64 = 7;
const STEPS: usize = 300;

struct ByRoom {
    may_hide: bool,
}

impl RoomPolicy for ByRoom {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        let access = Access::member();
        let is_hidden = self.may_hide && request.name().as_str().starts_with("hidden");
        Ok(if is_hidden { access.hidden() } else { access })
    }

    fn presence(&self, room: &RoomId) -> Option<Presence> {
        match room.as_str() {
            "count" => Some(Presence::Count),
            "quiet" => Some(Presence::Quiet),
            "auto" => Presence::auto(4, 2).ok(),
            _ => None,
        }
    }
}

/// A user, an info and a state, if there are any.
type Profile = [Option<Value>; 3];

/// What a client knows of a room, by the rules of the protocol.
#[derive(Debug, Default)]
struct Known {
    seq: u64,
    mode: String,
    num: u64,
    users: u64,
    /// The members by their ids.
    roster: BTreeMap<String, (String, Profile)>,
    /// Whether the last page has arrived.
    is_complete: bool,
}

impl Known {
    /// Follows a frame. Returns a request for members if one is needed.
    fn follow(&mut self, room: &str, frame: &Value) -> Option<Value> {
        let event = frame["event"].as_str().unwrap();
        let is_room_frame = frame["seq"].is_u64() && !["entered", "members", "ack"].contains(&event);
        if is_room_frame {
            let seq = frame["seq"].as_u64().unwrap();
            if seq <= self.seq {
                return None;
            }
            assert_eq!(seq, self.seq + 1, "{frame}");
            self.seq = seq;
        }
        if let Some(num) = frame["num"].as_u64() {
            self.num = num;
        }
        let member = frame["member"].as_str().unwrap_or_default().to_owned();
        match event {
            "entered" | "members" => {
                let seq = frame["seq"].as_u64().unwrap();
                assert!(event == "entered" || seq == self.seq, "{frame} at {}", self.seq);
                self.seq = seq;
                self.take_page(frame);
            }
            "presence" => {
                self.set_mode(frame);
                self.roster.clear();
                self.is_complete = false;
                return (self.mode == "full").then(|| json!({"event": "members", "roomId": room}));
            }
            "enter" => {
                let profile = profile_in(frame);
                self.roster.insert(member, (frame["name"].as_str().unwrap().to_owned(), profile));
            }
            "out" => drop(self.roster.remove(&member)),
            "state" => {
                if let Some((_, profile)) = self.roster.get_mut(&member) {
                    for (known, key) in profile.iter_mut().zip(KEYS) {
                        if let Some(new) = frame.get(key) {
                            *known = Some(new.clone()).filter(|new| !new.is_null());
                        }
                    }
                }
            }
            _ => {}
        }
        None
    }

    fn set_mode(&mut self, frame: &Value) {
        self.mode = frame["mode"].as_str().unwrap().to_owned();
        self.users = frame["users"].as_u64().unwrap();
    }

    fn take_page(&mut self, page: &Value) {
        self.set_mode(page);
        // A roster of this room has one page.
        self.roster.clear();
        let Some(members) = page.get("members") else {
            return assert_ne!(self.mode, "full");
        };
        for member in members.as_array().unwrap() {
            let entry = (member["name"].as_str().unwrap().to_owned(), profile_in(member));
            self.roster.insert(member["member"].as_str().unwrap().to_owned(), entry);
        }
        assert_eq!(page.get("next"), None);
        self.is_complete = true;
    }

    /// The number of users among the members of the roster.
    fn users_of_roster(&self) -> u64 {
        let mut users: Vec<&Value> =
            self.roster.values().filter_map(|(_, profile)| profile[0].as_ref()).collect();
        users.sort_by_key(|user| user.to_string());
        users.dedup();
        users.len() as u64
    }
}

const KEYS: [&str; 3] = ["user", "info", "state"];

fn profile_in(frame: &Value) -> Profile {
    KEYS.map(|key| frame.get(key).cloned())
}

/// A client that follows its rooms, over all of its connections.
struct Follower {
    client: Client,
    admission: Admission,
    token: Value,
    /// Its id as a member.
    member: String,
    /// The names of the rooms that it has entered.
    names: BTreeMap<&'static str, String>,
    rooms: BTreeMap<String, Known>,
}

impl Follower {
    async fn connect(rooms: &ChatRooms, admission: Admission) -> Follower {
        let (client, welcome) = Client::connect_v1(rooms, admission.clone()).await;
        let (names, known) = (BTreeMap::new(), BTreeMap::new());
        let (token, member) = (welcome["resume"].clone(), welcome["connection"].as_str().unwrap().to_owned());
        Follower { client, admission, token, member, names, rooms: known }
    }

    /// Does something at random.
    async fn step(&mut self, rooms: &ChatRooms, random: &mut Random, id: u64, n: usize) {
        let room = ROOMS[random.below(ROOMS.len() as u64) as usize];
        let state = [json!(n), json!({"a": [n]}), Value::Null][random.below(3) as usize].clone();
        match random.below(16) {
            0..=4 => {
                let prefix = if random.below(5) == 0 { "hidden" } else { "m" };
                let name = format!("{prefix} {id} {}", random.below(2));
                let mut enter = enter_frame(&name, room);
                enter["state"] = state;
                self.names.insert(room, name);
                self.client.send(enter).await;
            }
            5 | 6 => {
                self.names.remove(room);
                self.client.send(leave_frame(room)).await;
            }
            7 | 8 => self.client.send(message_frame(room, n)).await,
            9..=11 => self.client.send(json!({"event": "state", "state": state, "roomId": room})).await,
            12 => {
                let token = format!("u-{}", id % 3);
                self.client.send(json!({"event": "auth", "message": token})).await;
                self.admission = Admission::user(user(&token));
            }
            13 => {
                if let Some(member) = rooms.members(room).first() {
                    let _ = rooms.set_info(room, member.connection, &state);
                }
            }
            14 => self.reconnect(rooms, random.below(2) == 0).await,
            15 if random.below(3) == 0 => self.is_kicked(rooms).await,
            _ => self.read(random.below(9) as usize).await,
        }
    }

    /// Is kicked, and connects again as another member.
    async fn is_kicked(&mut self, rooms: &ChatRooms) {
        // The server must have read everything that it has sent.
        self.read(usize::MAX).await;
        if let Ok(id) = self.member.parse()
            && rooms.kick(id)
        {
            assert_eq!(self.client.close_code().await, 4500);
        }
        let new = Follower::connect(rooms, self.admission.clone()).await;
        drop(std::mem::replace(self, new));
    }

    /// Loses its connection, resumes, and enters its rooms again.
    async fn reconnect(&mut self, rooms: &ChatRooms, reads_first: bool) {
        if reads_first {
            self.read(usize::MAX).await;
        }
        let (client, welcome) = Client::connect_v1(rooms, self.admission.clone()).await;
        std::mem::replace(&mut self.client, client).disconnect().await;
        self.client.send(json!({"event": "resume", "message": [self.token]})).await;
        self.token = welcome["resume"].clone();
        for (room, name) in self.names.clone() {
            self.client.send(enter_frame(&name, room)).await;
        }
        let was_in: Vec<String> = self.rooms.keys().cloned().collect();
        self.read(usize::MAX).await;
        for room in was_in.into_iter().filter(|room| !self.names.contains_key(&**room)) {
            self.rooms.remove(&room);
        }
    }

    /// Reads up to `max` frames, or until none comes any more.
    async fn read(&mut self, max: usize) {
        for _ in 0..max {
            let Ok(frame) = timeout(Duration::from_millis(1), self.client.next()).await else { return };
            let Some(room) = frame["roomId"].as_str() else { continue };
            match frame["event"].as_str().unwrap() {
                "entered" => {
                    self.member = frame["member"].as_str().unwrap().to_owned();
                    self.rooms.entry(room.to_owned()).or_default();
                    self.follow(&frame).await;
                }
                "left" => drop(self.rooms.remove(room)),
                "error" => assert_eq!(frame["code"], "not_entered", "{frame}"),
                _ => self.follow(&frame).await,
            }
        }
    }

    async fn follow(&mut self, frame: &Value) {
        let room = frame["roomId"].as_str().unwrap();
        let known = self.rooms.get_mut(room).unwrap_or_else(|| panic!("a frame of another room: {frame}"));
        if let Some(request) = known.follow(room, frame) {
            self.client.send(request).await;
        }
    }

    /// Asserts that it knows what the nodes know together.
    fn check(&self, nodes: &[ChatRooms]) {
        assert_eq!(
            self.rooms.keys().map(String::as_str).collect::<Vec<_>>(),
            self.names.keys().copied().collect::<Vec<_>>()
        );
        for (room, known) in &self.rooms {
            let infos: Vec<_> = nodes
                .iter()
                .flat_map(|rooms| rooms.rooms())
                .filter(|info| info.id.as_str() == room)
                .map(|info| (info.online, info.users))
                .collect();
            let (online, users) = infos[0];
            assert!(infos.iter().all(|info| *info == (online, users)), "{room}: {infos:?}");
            assert_eq!(known.num, online as u64, "{room}: {known:?}");
            if known.mode != "full" {
                assert!(known.mode == "quiet" || known.users == users as u64, "{room}: {known:?}");
                assert!(known.roster.is_empty());
                continue;
            }
            let parsed =
                |text: &Option<String>| text.as_ref().map(|text| serde_json::from_str(text).unwrap());
            let mut roster: BTreeMap<String, (String, Profile)> = nodes
                .iter()
                .flat_map(|rooms| rooms.members(room))
                .filter(|member| !member.is_hidden)
                .map(|member| {
                    let user = member.user.as_ref().map(|user| json!(user.id()));
                    let profile = [user, parsed(&member.info), parsed(&member.state)];
                    (member.connection.to_string(), (member.name.to_string(), profile))
                })
                .collect();
            let mut known_roster = known.roster.clone();
            // A client knows its own state: it has set it itself.
            for roster in [&mut roster, &mut known_roster] {
                roster.entry(self.member.clone()).and_modify(|(_, [_, _, state])| *state = None);
            }
            assert!(known.is_complete);
            assert_eq!(known_roster, roster, "{room}");
            assert_eq!(known.users_of_roster(), users as u64);
        }
    }
}

fn user(id: &str) -> User {
    User::new(id).with_info(&json!({"of": id})).unwrap()
}

async fn on_token(token: String) -> Result<User, Denied> {
    Ok(user(&token))
}

/// Rooms with different modes.
pub(crate) fn rooms_by_mode(may_hide: bool) -> ChatRoomsBuilder {
    unlimited()
        .recovery(Recovery::default().resume_window(RESUME_WINDOW).history(History::last(1_000)))
        .policy(ByRoom { may_hide })
        .auth(on_token)
}

/// Delivers the broker's events late, after its answers.
async fn deliver_late(broker: SharedBroker, seed: u64) {
    let mut random = Random::new(seed);
    for n in 0.. {
        broker.set_delivering(n % 2 == 0);
        tokio::time::sleep(Duration::from_millis(random.below(100))).await;
    }
}

/// Adds the modes that a room with [`Presence::auto`] was in. If there are several nodes, they share a broker.
pub(crate) async fn run(
    seed: u64,
    modes: &mut BTreeSet<String>,
    nodes: &[ChatRooms],
    broker: Option<&SharedBroker>,
) {
    let node_of = |id: u64| &nodes[id as usize % nodes.len()];
    let mut random = Random::new(seed);
    let (mut followers, mut late) = (Vec::new(), None);
    for id in 0..CLIENTS {
        followers.push(Follower::connect(node_of(id), Admission::anonymous()).await);
    }
    for n in 0..STEPS {
        let id = random.below(CLIENTS);
        if let Some(broker) = broker.filter(|_| n % 50 == 0) {
            late = Some(tokio::spawn(deliver_late(broker.clone(), seed)));
        }
        followers[id as usize].step(node_of(id), &mut random, id, n).await;
        match random.below(8) {
            0 => tokio::task::yield_now().await,
            1 => tokio::time::sleep(Duration::from_millis(random.below(300))).await,
            _ => {}
        }
        // With a broker, an enter may be under way.
        if nodes.len() == 1 && !has_shared_broker() {
            assert_eq!(nodes[0].check_consistency().faults, []);
        }
        if n % 50 == 49 {
            if let (Some(broker), Some(late)) = (broker, late.take()) {
                late.abort();
                broker.set_delivering(true);
            }
            // Frames that are due later are sent, and the clients request what they still need.
            for round in 0..4 {
                if round > 0 {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                }
                if round == 3 {
                    // In a quiet room, the number is on other frames only. It changes when a session ends that was not
                    // resumed, so this is the last one.
                    let _ = nodes[0].send("quiet", &json!({"event": "notice"}));
                }
                // What the broker has taken reaches all nodes, however slow it is.
                run_other_tasks().await;
                for follower in &mut followers {
                    follower.read(usize::MAX).await;
                }
            }
            for follower in &followers {
                follower.check(nodes);
                modes.extend(follower.rooms.get("auto").map(|known| known.mode.clone()));
            }
            for rooms in nodes {
                assert_eq!(rooms.check_consistency().faults, []);
            }
        }
    }
    for follower in followers {
        follower.client.close().await;
    }
    // Sessions that could not be resumed, because their user has changed meanwhile.
    tokio::time::sleep(2 * RESUME_WINDOW).await;
    nodes.iter().for_each(assert_empty);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_follows_the_frames_knows_the_roster() {
    let mut modes = BTreeSet::new();
    for seed in 0..40 {
        println!("seed {seed}");
        run(seed, &mut modes, &[rooms_by_mode(true).build().unwrap()], None).await;
    }
    assert_eq!(modes.into_iter().collect::<Vec<_>>(), ["count", "full"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_knows_the_members_of_all_nodes() {
    let mut modes = BTreeSet::new();
    for seed in 0..40 {
        println!("seed {seed}");
        let broker = SharedBroker::new();
        let nodes = [(); 3].map(|()| rooms_by_mode(true).broker(broker.node()).build().unwrap());
        run(seed, &mut modes, &nodes, Some(&broker)).await;
    }
    assert_eq!(modes.into_iter().collect::<Vec<_>>(), ["count", "full"]);
}

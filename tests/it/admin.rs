//! The admin view: what it shows, and what it does not.

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};
use tower::ServiceExt;
use tower_chat_rooms::{
    Access, Admin, Admission, ChatRooms, Denied, DirectRequest, EnterRequest, Heartbeat, Recovery,
    RoomPolicy, SharedBroker, User, Verdict,
};

use crate::support::{
    Client, RESUME_WINDOW, builder, default_rooms, enter_frame, events_arrive, message_frame, nth_id,
    recovering_rooms, unlimited,
};

/// Clients need not answer during a test.
fn rare_heartbeat() -> Heartbeat {
    Heartbeat::every(Duration::from_secs(1000))
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends a request with headers.
pub(crate) async fn ask(admin: &Admin, method: Method, uri: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(uri).header("host", "ops.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let service = admin.clone().guarded_by_host();
    let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(body.into()).unwrap() }
}

async fn get(rooms: &ChatRooms, uri: &str) -> Value {
    let answer = ask(&rooms.admin(), Method::GET, uri, &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.text);
    answer.json()
}

/// Members of a room.
async fn members(rooms: &ChatRooms, room: &str, count: usize) -> Vec<Client> {
    let mut members = Vec::new();
    for n in 0..count {
        members.push(Client::enter(rooms, &format!("m{n}"), room).await);
    }
    members
}

fn texts(list: &Value, key: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
}

/// All pages of a list, together.
async fn pages(rooms: &ChatRooms, uri: &str, list: &str, key: &str) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = get(rooms, &format!("{uri}{after}")).await;
        all.extend(texts(&page[list], key));
        let Some(next) = page["next"].as_str() else { return all };
        after = format!("&after={}", encoded(next));
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test(start_paused = true)]
async fn rooms_come_in_pages_by_members() {
    let rooms = default_rooms();
    let mut all = Vec::new();
    for (room, count) in [("b", 2), ("a", 2), ("", 3), ("c", 1), ("a/b c&d", 1)] {
        all.extend(members(&rooms, room, count).await);
    }
    let expected = ["", "a", "b", "a/b c&d", "c"];
    for limit in 1..=6 {
        let uri = format!("/rooms?limit={limit}");
        assert_eq!(pages(&rooms, &uri, "rooms", "id").await, expected, "{limit}");
    }
    let first = get(&rooms, "/rooms?sort=members&limit=1").await;
    let room = json!({"id": "", "online": 3, "hidden": 0, "users": 0, "rate": null});
    assert_eq!((&first["rooms"], &first["next"]), (&json!([room]), &json!("3.")));
    assert_eq!(pages(&rooms, "/rooms?find=b&limit=1", "rooms", "id").await, ["b", "a/b c&d"]);
    let by_id = pages(&rooms, "/rooms?sort=id&limit=2", "rooms", "id").await;
    assert_eq!(by_id, ["", "a", "a/b c&d", "b", "c"]);
}

/// Rooms that exist all the time are on exactly one page, whatever happens in the meantime.
#[tokio::test(start_paused = true)]
async fn pages_of_rooms_by_id_are_stable() {
    let rooms = default_rooms();
    let (_b, _d, _f) =
        (members(&rooms, "b", 1).await, members(&rooms, "d", 2).await, members(&rooms, "f", 1).await);
    let gone = members(&rooms, "c", 1).await;
    let first = get(&rooms, "/rooms?sort=id&limit=2").await;
    assert_eq!(texts(&first["rooms"], "id"), ["b", "c"]);
    // The last room of the page closes, one opens before it, and another one grows.
    for member in gone {
        member.close().await;
    }
    let _new = (members(&rooms, "a", 1).await, members(&rooms, "f", 3).await);
    let after = encoded(first["next"].as_str().unwrap());
    let second = get(&rooms, &format!("/rooms?sort=id&limit=2&after={after}")).await;
    assert_eq!(
        (texts(&second["rooms"], "id"), &second["next"]),
        (vec!["d".into(), "f".into()], &Value::Null)
    );
}

#[tokio::test(start_paused = true)]
async fn rates_follow_from_two_requests() {
    let rooms = unlimited().heartbeat(rare_heartbeat()).build().unwrap();
    let (mut quiet, mut busy) = (members(&rooms, "quiet", 2).await, members(&rooms, "busy", 1).await);
    let admin = rooms.admin().guarded_by_host();
    let rooms_by_rate = || async {
        let request = Request::get("/rooms?sort=rate").body(Empty::<Bytes>::new()).unwrap();
        let body = admin.clone().oneshot(request).await.unwrap().into_body();
        let page: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        let rates: Vec<_> =
            page["rooms"].as_array().unwrap().iter().map(|room| room["rate"].clone()).collect();
        (texts(&page["rooms"], "id"), rates, page["rate_window_seconds"].clone())
    };
    let ids = |ids: [&str; 2]| ids.map(str::to_owned).to_vec();
    let unknown = vec![Value::Null; 2];
    assert_eq!(rooms_by_rate().await, (ids(["busy", "quiet"]), unknown.clone(), Value::Null));
    for (member, count) in [(&mut busy[0], 20), (&mut quiet[0], 1)] {
        for _ in 0..count {
            member.send(message_frame("", "hi")).await;
            member.next_of("message").await;
        }
    }
    // Too soon for another look at the rooms.
    assert_eq!(rooms_by_rate().await.1, unknown);
    sleep(Duration::from_secs(4)).await;
    let known = (ids(["busy", "quiet"]), vec![json!(5.0), json!(0.25)], json!(4.0));
    assert_eq!(rooms_by_rate().await, known);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rooms_by_rate().await, known);
    sleep(Duration::from_secs(100)).await;
    assert_eq!(rooms_by_rate().await.1, unknown);
}

/// Hides the user "spy".
struct Hiding;

impl RoomPolicy for Hiding {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        let access = Access::member().info(&json!({"badge": SECRET})).unwrap();
        Ok(if request.user().is_some_and(|user| user.id() == "spy") { access.hidden() } else { access })
    }

    fn may_send_direct(&self, _: &DirectRequest<'_>) -> Verdict {
        Verdict::allow()
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_has_pages_of_members_and_hidden_ones_too() {
    let rooms = builder().policy(Hiding).build().unwrap();
    let _members = members(&rooms, "r", 3).await;
    let mut spy = Client::connect_as(&rooms, Admission::user(User::new("spy")), 4096).await;
    spy.send(enter_frame("spy", "r")).await;
    while rooms.members("r").len() < 4 {
        tokio::task::yield_now().await;
    }
    let room = get(&rooms, "/room?id=r").await;
    assert_eq!(
        (&room["online"], &room["hidden"], &room["here"], &room["users"]),
        (&json!(3), &json!(1), &json!(4), &json!(0))
    );
    assert_eq!((&room["position"]["seq"], &room["presence"]), (&json!(3), &json!("full")));
    assert_eq!((&room["max_members"], &room["holds_senders"]), (&json!(10_000), &json!(false)));
    let member = |n: u64, name: &str, user: Value, is_hidden: bool| {
        json!({
            "connection": nth_id(n), "name": name, "user": user, "is_hidden": is_hidden,
            "is_connected": true,
        })
    };
    assert_eq!(room["members"][0], member(0, "m0", Value::Null, false));
    assert_eq!(room["members"][3], member(3, "spy", json!("spy"), true));
    for limit in 1..=5 {
        let uri = format!("/room?id=r&limit={limit}");
        assert_eq!(pages(&rooms, &uri, "members", "name").await, ["m0", "m1", "m2", "spy"], "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_its_user_rooms_and_queue() {
    let rooms = builder().heartbeat(rare_heartbeat()).build().unwrap();
    let peer = "192.0.2.7:4711".parse().unwrap();
    let mut ann = Client::connect_from(&rooms, Admission::user(User::new("u-1")), peer).await;
    ann.send(enter_frame("ann", "r")).await;
    ann.next_of("enter").await;
    sleep(Duration::from_secs(7)).await;
    let id = nth_id(0);
    let connection = get(&rooms, &format!("/connection?id={id}")).await;
    let room = json!({
        "id": "r", "name": "ann", "is_hidden": false, "is_read_only": false, "is_inactive": false,
    });
    assert_eq!(
        connection,
        json!({
            "id": id, "state": "connected", "protocol": "plain", "age_seconds": 7,
            "kept_for_seconds": null, "user": "u-1", "user_has_expired": false, "address": "192.0.2.7:4711",
            "queue": {
                "bytes": 0, "frames": 0, "replay_bytes": 0, "max_bytes": 1_048_576, "max_frames": 1024,
            },
            "rooms": [room], "room_count": 1,
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_shown_as_long_as_its_session_is_kept() {
    let (rooms, _log) = recovering_rooms();
    let (ann, _) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    let uri = format!("/connection?id={}", rooms.members("r")[0].connection);
    assert_eq!(get(&rooms, &uri).await["protocol"], "chat-rooms.v1");
    ann.disconnect().await;
    let connection = get(&rooms, &uri).await;
    assert_eq!(
        (&connection["state"], &connection["kept_for_seconds"]),
        (&json!("absent"), &json!(RESUME_WINDOW.as_secs()))
    );
    assert_eq!(get(&rooms, "/room?id=r").await["members"][0]["is_connected"], false);
    sleep(RESUME_WINDOW * 2).await;
    events_arrive().await;
    let answer = ask(&rooms.admin(), Method::GET, &uri, &[]).await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (StatusCode::NOT_FOUND, Some("not_found")));
}

#[tokio::test(start_paused = true)]
async fn users_come_in_pages_with_their_sessions() {
    let rooms = default_rooms();
    let mut clients = Vec::new();
    for user in ["u-3", "u-1", "u-2", "u-1", "ü&/"] {
        clients.push(Client::connect_as(&rooms, Admission::user(User::new(user)), 4096).await);
        tokio::task::yield_now().await;
    }
    clients.push(Client::connect(&rooms).await);
    while rooms.stats().accepted < 6 {
        tokio::task::yield_now().await;
    }
    for limit in 1..=5 {
        let all = pages(&rooms, &format!("/users?limit={limit}"), "users", "id").await;
        assert_eq!(all, ["u-1", "u-2", "u-3", "ü&/"], "{limit}");
    }
    let page = get(&rooms, "/users?find=-1").await;
    let user = json!({"id": "u-1", "session_count": 2, "sessions": [nth_id(1), nth_id(3)]});
    assert_eq!(page, json!({"users": [user], "next": null, "count": 1}));
}

#[tokio::test(start_paused = true)]
async fn the_node_and_its_numbers() {
    let rooms = default_rooms();
    let _members = members(&rooms, "r", 2).await;
    let stats = get(&rooms, "/stats").await;
    for (name, value) in [("connections", 2), ("pending", 0), ("rooms", 1), ("sessions", 2), ("absent", 0)] {
        assert_eq!(stats["now"][name], value, "{name}");
    }
    assert_eq!((&stats["total"]["accepted"], &stats["total"]["entered"]), (&json!(2), &json!(2)));
    assert_eq!(stats["reasons"]["closed"]["kicked"], 0);
    assert_eq!(stats["times"]["delivery"], json!({"count": 0, "sum_seconds": 0.0}));
    let node = get(&rooms, "/nodes").await;
    assert_eq!((&node["health"]["state"], &node["actions"]), (&json!("healthy"), &json!([])));
    rooms.shutdown().await;
    assert_eq!(get(&rooms, "/nodes").await["health"]["state"], "shutting_down");
    let alone = ChatRooms::builder().build().unwrap();
    assert_eq!(get(&alone, "/stats").await["broker"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_node_knows_the_other_nodes() {
    let broker = SharedBroker::new();
    let [here, there] = [(); 2].map(|()| ChatRooms::builder().broker(broker.node()).build().unwrap());
    let (_ann, _bob) = (Client::enter(&here, "ann", "r").await, Client::enter(&there, "bob", "r").await);
    let node = get(&here, "/nodes").await;
    let nodes = node["nodes"].as_array().unwrap();
    assert!(nodes.len() == 2 && nodes.contains(&node["own"]), "{node}");
    while get(&here, "/room?id=r").await["online"] != 2 {
        tokio::task::yield_now().await;
    }
    let room = get(&here, "/room?id=r").await;
    assert_eq!((&room["here"], texts(&room["members"], "name")), (&json!(1), vec!["ann".to_owned()]));
    let elsewhere = there.members("r")[0].connection;
    let answer = ask(&here.admin(), Method::GET, &format!("/connection?id={elsewhere}"), &[]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let number = get(&there, "/nodes").await["own"].to_string();
    assert!(answer.text.contains(&format!("began on node {number}")), "{}", answer.text);
    assert!(get(&here, "/stats").await["broker"]["events"].is_u64());
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let rooms = default_rooms();
    for (uri, status, part) in [
        ("/rooms?limit=1001", 400, "from 1 to 1000"),
        ("/rooms?limit=0", 400, "from 1 to 1000"),
        ("/rooms?sort=name", 400, "`members`, `rate` or `id`"),
        ("/rooms?after=x", 400, "the previous page"),
        ("/rooms?page=2", 400, "\"page\" is unknown"),
        ("/rooms?find=%ff", 400, "percent-encoded UTF-8"),
        ("/room", 400, "`id` is missing"),
        ("/room?id=none", 404, "no member of this node"),
        ("/room?id=none&after=-1", 400, "the previous page"),
        ("/connection?id=017", 400, "not a connection id"),
        ("/connection?id=17", 404, ""),
        ("/users?limit=ten", 400, "from 1 to 1000"),
        ("/stats?x=1", 400, "\"x\" is unknown"),
        ("/admin/rooms", 404, "Admin::at"),
        ("/rooms/r", 404, "nothing at this path"),
    ] {
        let answer = ask(&rooms.admin(), Method::GET, uri, &[]).await;
        assert_eq!(answer.status.as_u16(), status, "{uri}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(part), "{uri}: {message}");
        assert_eq!(answer.header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn every_answer_is_private_and_runs_no_foreign_code() {
    let rooms = default_rooms();
    for uri in ["/", "/?page.js", "/?page.css", "/?icon.svg", "/nodes", "/rooms", "/nothing", "/kick"] {
        let answer = ask(&rooms.admin(), Method::GET, uri, &[("origin", "https://evil.example")]).await;
        assert_eq!(answer.header("cache-control"), "no-store", "{uri}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"));
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("require-trusted-types-for"));
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")), "{uri}");
        let head = ask(&rooms.admin(), Method::HEAD, uri, &[]).await;
        assert_eq!((head.status, &*head.text, head.headers), (answer.status, "", answer.headers), "{uri}");
    }
}

#[tokio::test]
async fn the_page_refers_to_its_files_by_their_query() {
    let page = ask(&default_rooms().admin(), Method::GET, "/", &[]).await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(
        !page.text.contains("<style") && !page.text.contains("style=") && !page.text.contains("<script>")
    );
    for (name, kind) in [
        ("page.js", "text/javascript; charset=utf-8"),
        ("page.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ] {
        assert!(page.text.contains(&format!("=\"?{name}\"")), "{name}");
        let file = ask(&default_rooms().admin(), Method::GET, &format!("/?{name}"), &[]).await;
        assert_eq!((file.status, file.header("content-type")), (StatusCode::OK, kind));
        assert!(file.text.len() > 100 && !file.text.contains("innerHTML"), "{name}");
    }
}

#[tokio::test]
async fn the_view_can_be_mounted_anywhere() {
    let rooms = default_rooms();
    let admin = || rooms.admin().guarded_by_host();
    let app: Router = Router::new()
        .nest_service("/admin", admin())
        .nest_service("/a/b", rooms.admin().at("/a/b").at("/").guarded_by_host())
        .route_service("/ops/{*rest}", rooms.admin().at("/ops").guarded_by_host())
        .nest("/deep", Router::new().nest_service("/er", admin()));
    for (uri, kind) in [
        ("/admin", "text/html; charset=utf-8"),
        ("/admin/", "text/html; charset=utf-8"),
        ("/admin?page.js", "text/javascript; charset=utf-8"),
        ("/admin/?page.css", "text/css; charset=utf-8"),
        ("/admin/rooms?limit=3", "application/json"),
        ("/a/b/nodes", "application/json"),
        ("/ops/stats", "application/json"),
        ("/deep/er", "text/html; charset=utf-8"),
        ("/deep/er/users", "application/json"),
    ] {
        let request = Request::get(uri).body(axum::body::Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(
            (response.status(), &response.headers()["content-type"]),
            (StatusCode::OK, &kind.parse().unwrap()),
            "{uri}"
        );
    }
}

const SECRET: &str = "correct-horse-battery-staple";

/// Everything that the view shows of these rooms.
async fn everything(rooms: &ChatRooms, room: &str) -> String {
    let mut all = String::new();
    let mut uris = vec!["/nodes".to_owned(), "/stats".into(), "/users".into(), "/rooms".into()];
    uris.push(format!("/room?id={}", encoded(room)));
    uris.extend(rooms.members(room).iter().map(|member| format!("/connection?id={}", member.connection)));
    for uri in uris {
        all += &ask(&rooms.admin(), Method::GET, &uri, &[]).await.text;
    }
    all
}

#[tokio::test(start_paused = true)]
async fn the_view_shows_no_messages_no_tokens_and_no_values_of_the_host() {
    let rooms =
        builder().policy(Hiding).recovery(Recovery::default().resume_window(RESUME_WINDOW)).build().unwrap();
    let user = User::new("u-1").with_info(&json!({"mail": SECRET})).unwrap().with(SECRET.to_owned());
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::user(user)).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r", "state": {"draft": SECRET}})).await;
    ann.next_of("enter").await;
    ann.send(message_frame("r", SECRET)).await;
    ann.next_of("message").await;
    ann.send(json!({"event": "direct", "to": "u-1", "message": SECRET, "cid": "1"})).await;
    ann.next_of("ack").await;
    rooms.send("r", &json!({"event": "notice", "message": SECRET})).unwrap();
    ann.next_of("notice").await;
    let all = everything(&rooms, "r").await;
    assert!(all.contains(r#""name":"ann""#) && all.contains("u-1"));
    assert!(!all.contains(SECRET), "{all}");
    let token =
        welcome["resume"].as_str().or(welcome["token"].as_str()).unwrap_or_else(|| panic!("{welcome}"));
    assert!(token.len() > 10 && !all.contains(token), "{all}");
}

#[tokio::test(start_paused = true)]
async fn names_that_look_like_markup_are_only_texts() {
    let rooms = default_rooms();
    let (name, room) = ("<img src=x onerror=alert(1)>", "</script><script>alert(1)//\"'");
    let _ann = Client::enter(&rooms, name, room).await;
    let user = Admission::user(User::new("\"><svg onload=alert(1)>"));
    let _bob = Client::connect_as(&rooms, user, 4096).await;
    let page = get(&rooms, &format!("/room?id={}", encoded(room))).await;
    assert_eq!((&page["id"], &page["members"][0]["name"]), (&json!(room), &json!(name)));
    let answer = ask(&rooms.admin(), Method::GET, "/rooms", &[]).await;
    assert_eq!(answer.header("content-type"), "application/json");
}

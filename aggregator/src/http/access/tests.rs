use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
use tower::ServiceExt;

use super::*;

fn token(text: &str, role: Role, namespaces: Option<&[&str]>) -> Token {
    let namespaces = namespaces.map(|names| names.iter().map(ToString::to_string).collect());
    let grant = Arc::new(Grant { name: text.to_owned(), role, namespaces });
    Token { sha256: token::sha256(text), grant }
}

fn door(tokens: Vec<Token>) -> Arc<Door> {
    Arc::new(Door::new(&HttpAccess { tls: None, tokens }))
}

async fn ask(door: &Arc<Door>, role: Role, unrestricted: bool, token: Option<&str>) -> Response {
    let guard_of = Guard { door: Arc::clone(door), role, unrestricted };
    let router = Router::new()
        .route("/", get(async |Extension(grant): Extension<Arc<Grant>>| grant.name.clone()))
        .route_layer(from_fn_with_state(guard_of, guard));
    let mut request = Request::builder().uri("/");
    if let Some(token) = token {
        request = request.header("Authorization", token);
    }
    router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn tokens_have_their_roles_and_limits() {
    let door = door(vec![
        token("reads", Role::Read, None),
        token("rules", Role::Admin, None),
        token("some", Role::Read, Some(&["shop"])),
    ]);
    for (role, unrestricted, given, status) in [
        (Role::Read, false, Some("Bearer reads"), 200),
        (Role::Read, true, Some("bearer  reads"), 200),
        (Role::Admin, true, Some("Bearer reads"), 403),
        (Role::Admin, true, Some("Bearer rules"), 200),
        (Role::Read, true, Some("Bearer rules"), 200),
        (Role::Read, false, Some("Bearer some"), 200),
        (Role::Read, true, Some("Bearer some"), 403),
        (Role::Read, false, Some("Bearer "), 401),
        (Role::Read, false, Some("Bearer read"), 401),
        (Role::Read, false, Some("Basic reads"), 401),
        (Role::Read, false, Some("reads"), 401),
        (Role::Read, false, None, 401),
    ] {
        let answer = ask(&door, role, unrestricted, given).await;
        assert_eq!(answer.status(), status, "{role:?} {unrestricted} {given:?}");
        let challenged = answer.headers().contains_key(header::WWW_AUTHENTICATE);
        assert_eq!(challenged, status == 401);
    }
}

#[tokio::test]
async fn an_open_door_lets_everybody_read_and_nobody_rule() {
    let door = door(Vec::new());
    assert_eq!(ask(&door, Role::Read, true, None).await.status(), 200);
    assert_eq!(ask(&door, Role::Admin, true, None).await.status(), 403);
}

#[tokio::test]
async fn those_beyond_the_limit_are_sent_away_at_once() {
    let door = door(Vec::new());
    let all = door.requests.try_acquire_many(REQUESTS as u32).unwrap();
    let answer = ask(&door, Role::Read, true, None).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key(header::RETRY_AFTER));
    drop(all);
    assert_eq!(ask(&door, Role::Read, true, None).await.status(), 200);
}

#[test]
fn a_certificate_is_good_until_it_expires() {
    let mut door = Door::new(&HttpAccess::default());
    door.guarded = true;
    let certificate = |not_after_unix_s| Certificate { name: "a".to_owned(), not_after_unix_s };
    assert_eq!(door.grant(None, Some(&certificate(i64::MAX))).unwrap().name, "a");
    assert_eq!(door.grant(None, Some(&certificate(1))), None);
}

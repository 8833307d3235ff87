// Whether this browser is signed in. A page's HEAD leads to the login when it is not.

export async function isSignedIn(place) {
  try {
    const answer = await fetch(place, { method: "HEAD", cache: "no-store" });
    return !answer.redirected || new URL(answer.url).pathname !== "/login";
  } catch {
    return null;
  }
}

// Leads to the login when the session is over; a server that is away (null) changes nothing.
export async function leaveIfSignedOut() {
  if ((await isSignedIn(location.href)) === false) location.reload();
}

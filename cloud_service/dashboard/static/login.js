// A link from another site brings no cookie (SameSite=Strict). Asked from here the cookie comes along, and who is signed
// in goes on to where the link leads.
import { isSignedIn } from "./session.js";

const place = document.getElementById("next").value;
if (await isSignedIn(place)) location.replace(place);

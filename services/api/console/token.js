// The field for a bearer token.

import { hasToken, useToken } from "./api.js";
import { at, put } from "./dom.js";

/** Sets it up; `changed` is told that another token is sent from now on. */
export function setUpToken(changed) {
  const dialog = at("token-dialog");
  const show = () => {
    at("token").value = "";
    at("token-problem").hidden = true;
    at("token-forget").disabled = !hasToken();
    dialog.showModal();
    at("token").focus();
  };
  at("token-open").addEventListener("click", show);
  at("banner-token").addEventListener("click", show);
  at("token-cancel").addEventListener("click", () => dialog.close());
  const use = (text) => {
    useToken(text);
    dialog.close();
    changed();
  };
  at("token-forget").addEventListener("click", () => use(""));
  at("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = at("token").value.trim();
    // A header holds nothing else.
    if (/^[\x21-\x7e]+$/.test(text)) return use(text);
    put(at("token-problem"), text ? "A token has no blanks, and ASCII characters only." : "The field is empty.");
    at("token-problem").hidden = false;
  });
}

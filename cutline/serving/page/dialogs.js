// Asks for a token. Exports: askToken.

import { show } from "./dom.js";
import { ServerError } from "./server.js";

/** Return a promise of a token; it fails if the dialog is closed without one. */
export function askToken(wasWrong) {
  const dialog = document.getElementById("token");
  const [form] = dialog.getElementsByTagName("form");
  const field = document.getElementById("token-value");
  const problem = document.getElementById("token-problem");
  problem.textContent = wasWrong ? "The server did not accept this token. Check it." : "";
  show(wasWrong, problem);
  field.setAttribute("aria-invalid", String(wasWrong));
  dialog.showModal();
  field.select();
  return new Promise((resolve, reject) => {
    form.onsubmit = (event) => {
      event.preventDefault(); // the token goes into a header, never into an address
      const token = field.value.trim();
      if (!token) return;
      field.value = "";
      resolve(token);
      dialog.close();
    };
    dialog.onclose = () => {
      const message = "This server needs a token. Ask its administrator, then try again.";
      reject(new ServerError(401, { type: "unauthorized", message }));
    };
  });
}

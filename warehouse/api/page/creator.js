// A creator's count as it changes.
import { moment, number, setText, watch } from "./page.js";

const creator = document.getElementById("creator").dataset.creator;

function showState(kind, text) {
  document.getElementById("state").className = `state ${kind}`;
  setText("state-text", text);
}

function showCount(state) {
  setText("flattrs", number(state.flattrs));
  setText("as-of", moment(state.as_of));
  setText("said", `${number(state.flattrs)} flattrs`);
  showState("good", "Live");
}

watch(`/v1/creators/${encodeURIComponent(creator)}/live`, { creator: showCount }, () =>
  showState("bad", "Disconnected, retrying"),
);

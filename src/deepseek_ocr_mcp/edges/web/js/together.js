// Links the page and its text: a block that is pointed at, focused or chosen in one lights up in the other.

/** Returns a function that lights nothing any more: call it when either side shows something else. */
export function together(viewer, text) {
  let pinned = -1;
  const light = (index) => {
    const shown = index < 0 ? pinned : index;
    viewer.light(shown);
    text.light(shown);
  };
  const pick = (index, from) => {
    pinned = index === pinned ? -1 : index;
    viewer.pin(pinned);
    light(pinned);
    if (pinned < 0) return;
    if (from === viewer) text.reveal(pinned);
    else viewer.reveal(pinned);
  };
  for (const side of [viewer, text]) {
    side.addEventListener("light", ({ detail }) => light(detail));
    side.addEventListener("pick", ({ detail }) => pick(detail, side));
    side.addEventListener("word", ({ detail }) => (viewer.lightWord(detail), text.lightWord(detail)));
  }
  // A page that is shown larger than its pane moves with its text, and the text with the page.
  viewer.addEventListener("moved", ({ detail }) => text.follow(detail));
  text.addEventListener("scrolled", ({ detail }) => viewer.follow(detail));
  return () => {
    pinned = -1;
    viewer.pin(-1);
    light(-1);
  };
}

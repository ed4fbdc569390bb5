// Shows several captions of an image to choose from. Exports: Alternatives.

import { percent } from "./caption.js";
import { make, nextId } from "./dom.js";

export class Alternatives {
  #onChoose;
  #list = make("div", { className: "choices" });

  /** onChoose(caption) is called when one is chosen. */
  constructor(onChoose) {
    this.#onChoose = onChoose;
    const legend = make("legend", { textContent: "Alternatives" });
    const properties = { className: "alternatives", hidden: true };
    this.element = make("fieldset", properties, legend, this.#list);
  }

  /** Show captions, best first; one is marked as chosen. */
  show(captions, chosenText) {
    const name = nextId("alternatives");
    this.element.hidden = captions.length < 2;
    this.#list.replaceChildren(
      ...captions.map((caption) => this.#makeChoice(name, caption, chosenText)),
    );
  }

  #makeChoice(name, caption, chosenText) {
    const radio = make("input", { type: "radio", name, checked: caption.text === chosenText });
    radio.addEventListener("change", () => this.#onChoose(caption));
    const text = make("span", { className: "text", dir: "auto", textContent: caption.text });
    const share = percent(caption.confidence);
    const confidence = make("span", { className: "number", textContent: share });
    return make("label", {}, radio, text, " ", confidence);
  }
}

// A button on each block of code that copies it. Of an example with prompts it copies what one types, without what is printed.

const PROMPT = /^(>>>|\.\.\.|\$) ?/;

function typed(text) {
  const lines = text.replace(/\n+$/, "").split("\n");
  const prompted = lines.filter((line) => PROMPT.test(line));
  return (prompted.length ? prompted.map((line) => line.replace(PROMPT, "")) : lines).join("\n") + "\n";
}

function addButton(block) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(typed(block.querySelector("pre").textContent));
    } catch {
      said = "Not allowed"; // a page that is opened as a file, in some browsers
    }
    button.textContent = said;
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  block.append(button);
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("article div.highlight").forEach((block) => {
    const printed = block.closest(".cell_output, .output"); // what a notebook printed
    if (block.querySelector("pre") && !printed) addButton(block);
  });
});

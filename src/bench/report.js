for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg");
  const cursor = svg.querySelector(".cursor");
  const output = plot.querySelector("output");
  const xs = svg.dataset.x.split(" ").map(Number);
  const table = plot.parentElement.querySelector("table");
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  plot.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let nearest = 0;
    xs.forEach((at, i) => { if (Math.abs(at - x) < Math.abs(xs[nearest] - x)) nearest = i; });
    const cells = [...table.tBodies[0].rows[nearest].cells].map((cell) => cell.textContent);
    output.textContent = cells.map((text, i) => `${heads[i]}: ${text}`).join("\n");
    output.hidden = false;
    cursor.setAttribute("transform", `translate(${xs[nearest]} 0)`);
    cursor.setAttribute("visibility", "visible");
    const left = (xs[nearest] / svg.viewBox.baseVal.width) * box.width;
    const isRight = left > box.width / 2;
    output.style.left = `${isRight ? left - output.offsetWidth - 10 : left + 10}px`;
  });
  plot.addEventListener("pointerleave", () => {
    output.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  });
}

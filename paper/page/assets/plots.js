// Interactive plots; the library is read when the first of them comes into sight.

parts.push((known) => {
  const place = document.querySelector("#plots .plots");
  const watch = new IntersectionObserver(
    (seen) => {
      for (const { target, isIntersecting } of seen) {
        if (!isIntersecting) continue;
        watch.unobserve(target);
        draw(target, known.plots[Number(target.dataset.plot)]);
      }
    },
    { rootMargin: "200px" },
  );
  known.plots.forEach((plot, number) => {
    // Its room is kept from the start: what stands below must not move away under a reader's hand.
    const box = make("div", { role: "img", "aria-label": plot.title, "data-plot": number, style: `height:${plot.layout.height}px` });
    place.append(make("figure", {}, make("figcaption", {}, plot.title), box));
    watch.observe(box);
  });
});

function draw(box, plot) {
  if (!globalThis.Plotly) document.head.append(make("script", {}, document.getElementById("plotly").textContent));
  const font = { family: "system-ui, sans-serif", size: 12 };
  const layout = { ...plot.layout, font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true };
  Plotly.newPlot(box, plot.data, layout, { responsive: true, displaylogo: false });
}

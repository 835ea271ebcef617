import { ColdreadError, load, type Sentiment } from "coldread";

const classifier = await load();
const one: Sentiment = classifier.classify("so good");
for (const result of classifier.classify(["so good", ""], { longText: "window" })) {
  if (result instanceof ColdreadError) console.log(result.code, result.index);
  else console.log(result.label, result.scores["positive"]);
}
console.log(one.score);

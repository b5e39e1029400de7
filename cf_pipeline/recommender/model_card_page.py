"""The page of the model card, a Jinja template; in Python, so that its edits count as code's do."""

PAGE = """\
{% macro pairs(mapping) %}
<dl>
{% for name, value in mapping.items() %}
  <div><dt>{{ name | words }}</dt><dd>{{ value | shown }}</dd></div>
{% endfor %}
</dl>
{% endmacro %}
{% macro table(of) %}
<figure class="wide">
<table>
  <caption>{{ of.caption }}</caption>
  <thead><tr>
{% for name in of.rows[0] %}
    <th scope="col">{{ name | words }}</th>
{% endfor %}
  </tr></thead>
  <tbody>
{% for row in of.rows %}
  <tr>
{% for value in row.values() %}
    <td{{ ' class="number"' | safe if value is number and value is not boolean }}>{{ value | shown }}</td>
{% endfor %}
  </tr>
{% endfor %}
  </tbody>
</table>
</figure>
{% endmacro %}
{% macro pictures(of, kind="") %}
<div class="pictures {{ kind }}">
{% for picture in of %}
<figure>
  <img src="{{ picture.source }}" alt="{{ picture.caption }}">
  <figcaption>{{ picture.caption }}</figcaption>
</figure>
{% endfor %}
</div>
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Model card: recommendations of movies</title>
<style>
:root { --ink: #24292f; --quiet: #57606a; --line: #d8dee4; --ground: #ffffff; --blue: #0969da }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 66rem; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
h1 { margin: 0 0 .25rem; font-size: 2rem; line-height: 1.2 }
h2 { margin: 3rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: 1.35rem }
h3 { margin: 1.75rem 0 .5rem; font-size: 1.05rem }
p, li { max-width: 46rem; overflow-wrap: anywhere }
code { font: .92em ui-monospace, "DejaVu Sans Mono", monospace }
.formula { padding: .75rem 1rem; border-left: 3px solid var(--blue); background: #f6f8fa; white-space: pre-wrap }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(12.5rem, 1fr)); gap: .75rem 1.5rem; margin: 1rem 0 }
dt { color: var(--quiet); font-size: .85rem }
dd { margin: 0; overflow-wrap: anywhere }
.summary dd { font-size: 1.5rem; font-variant-numeric: tabular-nums }
figure { margin: 1rem 0 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .875rem }
caption { padding: .25rem 0; color: var(--quiet); text-align: left }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th { font-weight: 600 }
.number { font-variant-numeric: tabular-nums; white-space: nowrap }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1rem 2rem }
.pictures figure { margin: 0 }
.large { grid-template-columns: 1fr }
img { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px }
figcaption { color: var(--quiet); font-size: .875rem }
@media print { h2 { break-after: avoid } figure, tr { break-inside: avoid } }
</style>
</head>
<body>
<header>
<h1>Recommendations of movies</h1>
<p>A factor model that predicts ratings, and a ranking model that makes lists of what people have not yet rated.</p>
<section class="summary" aria-label="At a glance">
{{ pairs(card.summary) }}
</section>
</header>
<main>
<h2 id="use">Intended use</h2>
<p>To recommend movies to people whose ratings are known, to predict how they will like one and how sure that is, and to find movies that are alike: for research, teaching, and as a base of systems that are evaluated on their own users.</p>
<h3>Not intended</h3>
<ul>
<li>Decisions about people. With a feature rank above 0 the models learn from age, gender and occupation, where the data has them; what they find is taste in movies, and stereotype too.</li>
<li>Use that the licence of the data does not permit, such as commercial use of MovieLens.</li>
</ul>
<h2 id="data">Data</h2>
{{ pairs(card.data) }}
<p>Only the training part enters a fit. The weight of the predicted rating is chosen on rows set aside from it; all else is as the settings below say.</p>
<h2 id="method">Method</h2>
<p>A rating is predicted from what tells how a user likes a movie:</p>
<p class="formula">rating = sigmoid_range(user factors · movie factors{{ " + user bias + movie bias" if card.bias }})</p>
<p>A list is ordered by a score, which adds what people choose to watch at all: factors of implicit alternating least squares, and a weight times what the factor model says before its sigmoid.</p>
<p class="formula">score = user's implicit factors · movie's implicit factors + weight × (user factors · movie factors{{ " + movie bias" if card.bias }})</p>
{% for name, settings in card.settings.items() %}
<h3>Settings of {{ name | words }}</h3>
{{ pairs(settings) }}
{% endfor %}
{% if card.pictures["learnt"] %}
<h2 id="learnt">What the factor model learnt</h2>
{{ pictures(card.pictures["learnt"], "large") }}
{% endif %}
<h2 id="ratings">How well ratings are predicted</h2>
{% if card.scale.is_constant %}
<p>All ratings of the training part are alike, so there are none to predict: the factor model is a constant, and lists go by what people choose to watch alone.</p>
{% else %}
<p>Ratings are from {{ card.scale.low | shown }} to {{ card.scale.high | shown }}. Errors are on that scale, on the test part, whose ratings no fit has seen.</p>
{% endif %}
{% for of in card.rating %}
{{ table(of) }}
{% endfor %}
{{ pictures(card.pictures["rating"]) }}
<h2 id="lists">How well lists find what people went on to rate</h2>
<p>All movies that a user has not rated in the training part are ranked, none is left out. What the user rated in the test part is relevant: all of it{{ ", or what was liked, rated " ~ card.scale.liked | shown ~ " or more" if not card.scale.is_constant }}. Figures are means over users, those at 10 of the ten best.</p>
{% for of in card.ranking %}
{{ table(of) }}
{% endfor %}
{{ pictures(card.pictures["ranking"]) }}
{% if card.examples %}
<h2 id="examples">Examples</h2>
{% for of in card.examples %}
{{ table(of) }}
{% endfor %}
{% endif %}
<h2 id="limits">Limits</h2>
<ul>
<li>A movie without a training rating is in no list.</li>
<li>Lists may favour popular movies: a popularity bias of 1 is none, above it they do. Coverage is the share of the training part's movies that is among the ten best of those who are judged; the picture is of everybody's lists.</li>
<li>Ratings say who chose to rate what, not what people would think of a movie chosen for them: figures on a test part are not those of an experiment.</li>
<li>Tastes drift. The models know nothing after their last training rating.</li>
<li>What is said of somebody with few ratings is mostly what is said of everybody.</li>
</ul>
<h2 id="licence">Licence and citation</h2>
<p>The code is under the Apache License 2.0. The data, and what is made from it: {{ card.licence }}</p>
<p>{{ card.citation }}</p>
<h2 id="versions">Made from</h2>
{{ pairs(card.made_from) }}
</main>
</body>
</html>
"""  # noqa: E501

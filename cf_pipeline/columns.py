"""What the columns of MovieLens' tables hold: shown in the UI beside each one's type."""

RATING_COLUMNS = {
    "user": "MovieLens' id of the user",
    "movie": "MovieLens' id of the movie",
    "rating": "Stars, 1 to 5",
    "timestamp": "When the rating was given, UTC",
}
MOVIE_COLUMNS = {
    "movie": RATING_COLUMNS["movie"],
    "title": "Title, with the year of release",
    "release_year": "Year of release, from the title",
    "release_date": "Date of release",
    "imdb_url": "Address at IMDb",
    "genres": "Some of 19 genres, in the archive's order",
}
USER_COLUMNS = {
    "user": RATING_COLUMNS["user"],
    "age": "Years",
    "gender": "F or M",
    "occupation": "One of 21",
    "zip": "US zip code, or what was given for one",
}
PART_COLUMNS = {**RATING_COLUMNS, "part": "What the rating is for: train or test"}
VOCABULARY_COLUMNS = {
    "id": "MovieLens' id of the user or movie whose index is the row's number; none in row 0, "
    "which is for all that are unknown"
}

"""What the columns of the tables hold: shown in the UI beside each one's type."""

RATING_COLUMNS = {
    "user": "The dataset's id of the user",
    "movie": "The dataset's id of the movie",
    "rating": "The rating, on the scale of the dataset; 1 of an event",
    "timestamp": "When it was given, UTC; empty where that is not known",
}
MOVIE_COLUMNS = {
    "movie": RATING_COLUMNS["movie"],
    "title": "Title, with the year of release",
    "release_year": "Year of release, from the title",
    "release_date": "Date of release",
    "imdb_url": "Address at IMDb",
    "genres": "Genres, in the archive's words and order",
}
USER_COLUMNS = {
    "user": RATING_COLUMNS["user"],
    "age": "Years; in ml-1m where a bracket of ages begins",
    "gender": "F or M",
    "occupation": "Occupation, in the archive's words",
    "zip": "US zip code, or what was given for one",
}
PART_COLUMNS = {**RATING_COLUMNS, "part": "What the rating is for: train or test"}
VOCABULARY_COLUMNS = {
    "id": "The dataset's id of the user or movie whose index is the row's number; none in row 0, "
    "which is for all that are unknown"
}

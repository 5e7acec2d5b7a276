"""Classification by a support vector machine on a kernel matrix (`solve --method svm`)."""

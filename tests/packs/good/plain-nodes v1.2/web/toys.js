console.log("toys");
